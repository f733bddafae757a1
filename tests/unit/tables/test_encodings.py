"""Names keep their letters in the encodings of other countries and systems."""

from __future__ import annotations

from pathlib import Path

import pytest

from vigie.errors import InvalidDataError
from vigie.tables.options import CsvOptions, ReadOptions
from vigie.tables.reading import read_table

ROWS = [f"2024-02-05 10:{i:02}:00,{i % 7}.5,{i % 5}.25" for i in range(20)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "table.csv"


def write(file: Path, names: str, encoding: str) -> None:
    file.write_bytes("\n".join([names, *ROWS, ""]).encode(encoding))


@pytest.mark.parametrize(
    ("names", "encoding"),
    [
        ("Время,Температура,Расход", "cp1251"),
        ("Дата,Темп.,Ток", "cp1251"),
        ("Время,Температура,Расход", "koi8-r"),
        ("Время,Температура,Расход", "cp866"),
        ("Ώρα,Θερμοκρασία,Ροή", "cp1253"),
        ("时间,温度,流量", "gbk"),
        ("時間,溫度,流量", "big5"),
        ("時刻,温度,ポンプ", "shift_jis"),
        ("시간,온도,유량", "euc-kr"),
        ("Czas,Ciśnienie łożyska,Przepływ", "cp1250"),
        ("Czas,Prędkość,Napięcie", "cp1250"),
        ("Czas,Ciśnienie łożyska,Przepływ", "iso8859-2"),
        ("Čas,Teplota ložiska,Průtok", "cp1250"),
        ("Idő,Hőmérséklet,Nyomás", "cp1250"),
        ("Zaman,Sıcaklık,Akış hızı", "cp1254"),
        ("Laikas,Temperatūra,Slėgis", "cp1257"),
        ("Zeit,Außentemperatur,Durchfluß übrig", "cp850"),
        ("Heure,Température,Débit", "cp850"),
        ("Time,T [°C],Flow", "cp437"),
        ("Zeit,Außentemperatur,Durchfluß übrig", "mac_roman"),
        ("Heure,Température,Débit", "mac_roman"),
    ],
)
def test_letters_tell_the_encoding_which_is_said(file: Path, names: str, encoding: str):
    write(file, names, encoding)
    table = read_table(file)
    assert ",".join(table.frame.columns) == names
    assert any(note.startswith("The encoding is taken for") for note in table.notes)


@pytest.mark.parametrize(
    "names",
    [
        "Zeit,Öl-Temperatur,Größe [µm]",
        "Heure,Température °C,Pièce n° 1",
        "Hora,Presión,Señal (m³/h)",
        "Ora,Velocità,Umidità",
        "Data,Vazão,Vibrações",
        "Tid,Måling,Strøm",
        "Tijd,Temp °C,Coëfficiënt",
        "ZEIT,ÜBERDRUCK,Ø Rohr – innen",
    ],
)
def test_letters_of_western_europe_are_read_without_a_word(file: Path, names: str):
    write(file, names, "cp1252")
    table = read_table(file)
    assert ",".join(table.frame.columns) == names
    assert table.notes == ()


def test_bytes_that_no_language_has_are_said(file: Path):
    content = "\n".join(["time,Wärme,rms", *ROWS]).encode()
    file.write_bytes(content + b"\n2024-02-05 11:00:00,\xff,1\n")
    [note, _] = read_table(file).notes
    assert note == (
        "The encoding is not sure: cp1252 makes 'WÃ¤rme' of a word. Say --encoding NAME if that "
        "is wrong"
    )


def test_a_byte_that_is_no_character_is_refused_with_its_line(file: Path):
    write(file, "時刻,温度,流量", "shift_jis")
    for encoding in ("cp1252", "utf-8", "utf-8-sig"):
        with pytest.raises(InvalidDataError, match=r"Line 1 holds the byte 0x.*Say --encoding"):
            read_table(file, ReadOptions(csv=CsvOptions(encoding=encoding)))
    rows = [f"{row},ok" for row in ROWS] * 3000
    file.write_bytes("\n".join(["time,flow,rms,state", *rows, ""]).encode() + b"1,2,3,\xe4\n")
    with pytest.raises(InvalidDataError, match="no time"):
        read_table(file)
    file.write_bytes("\n".join(["time,flow,rms,état", *rows, ""]).encode() + b"1,2,3,\xe4\n")
    with pytest.raises(InvalidDataError, match=f"Line {len(rows) + 2} holds the byte 0xe4"):
        read_table(file)


def test_late_bytes_of_a_plain_file_are_said(file: Path):
    rows = [f"{i}.5,{i % 7}.25,ok" for i in range(80_000)]
    file.write_bytes("\n".join(["flow,rms,state", *rows, "1.5,2.5,Gerät", ""]).encode("cp1252"))
    table = read_table(file)
    assert table.frame["state"].iloc[-1] == "Gerät"
    assert any(
        note.startswith("Bytes that are no UTF-8 are read as cp1252") for note in table.notes
    )


def test_a_quotation_mark_that_is_left_open_is_named(file: Path):
    file.write_text("flow,rms\n1,2\n" + '3,"4\n' + "5,6\n" * 50_000)
    with pytest.raises(InvalidDataError, match="A cell that begins in line 3 does not end"):
        read_table(file)
