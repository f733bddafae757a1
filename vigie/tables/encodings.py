"""Find the encoding of a text that is no UTF-8, by the letters that it makes.

An encoding fits if all words become words of one language, as "Température" does in Windows-1252.
Names are too few for statistics of languages: alphabets tell, and for Chinese, Japanese and Korean
the characters that names of sensors have.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

UNSURE = "cp1252"
"""What Excel writes in Western Europe, where nothing tells."""
MOST_LINES = 200
FEWEST_LETTERS = 3
"""Of another script; fewer may be symbols."""
COMMON = 0.5
"""Share of the letters, or characters, that are common ones of the language."""
_WORD = re.compile(r"[^\W\d_]+")
_SYMBOL = re.compile(
    r"°(?![a-z])|(?<![^\W\d_])µ|(?<=[a-zA-Z])[²³](?![^\W\d_])|º(?=C?\b)|(?<=[nN])º|\bØ\b"
    r"|[\xa0±×·–—’‘“”„«»…‰€£№½¼¾]"
)

_SCRIPTS = {
    "cp1251": ("а-яёіїєґ", "оеаинтсрвлкмдпуья"),
    "koi8-r": ("а-яё", "оеаинтсрвлкмдпуья"),
    "cp866": ("а-яё", "оеаинтсрвлкмдпуья"),
    "cp1253": ("α-ωάέήίόύώϊϋΐΰς", "αοιετσνηυρπκμλωςίόά"),
}
"""By encoding the small letters, and the most frequent of them."""
_CHARACTERS = {
    "gb18030": (
        "时间日期年月分秒温度压力流量电流电压功率转速振动位移频率湿度液位状态编号设备名称轴承泵机阀主副前后"
        "左右上下进出口油水气风冷却系统高低平均最大小值报警序号单位力矩扭加热能耗室内外环境露点浓度质重长宽厚"
        "开关运行停止故障"
    ),
    "big5": (
        "時間日期年月分秒溫度壓力流量電流電壓功率轉速振動位移頻率濕度液位狀態編號設備名稱軸承泵機閥主副前後"
        "左右上下進出口油水氣風冷卻系統高低平均最大小值報警序號單位力矩扭加熱能耗室內外環境濃度質重長寬厚"
        "開關運行停止故障"
    ),
    "cp932": (
        "時刻間日付年月分秒温度圧力流量電流電圧電力回転数速度振動湿度周波位置状態設備番号名称軸受機主副前後"
        "左右上下入出口油水気風冷却系統高低平均最大小値警報単位加熱室内外環境濃度質重長幅厚開閉運転停止故障"
    ),
    "cp949": (
        "시간일자날짜년월분초온도압력유량전류전압전력회전수속도진동습도주파수상태번호설비이름모터펌프베어링"
        "입구출구평균최대최소값레벨위치오일물공기냉각시스템고저경보단위가열실내외환경농도질무게운전정지고장"
    ),
}
_KANA = re.compile(r"[\u3040-\u30ff]")
_WESTERN = {
    "German": "äöüß",
    "French": "éèêëàâçîïôûùœ",
    "Spanish": "áéíóúñü",
    "Portuguese": "áâãàçéêíóôõú",
    "Italian": "àèéìòù",
    "Nordic": "åäöæøé",
    "Dutch": "ëïéèöü",
}
_CENTRAL = {
    "Polish": "ąćęłńóśźż",
    "Czech": "áčďéěíňóřšťúůýž",
    "Slovak": "áäčďéíĺľňóôŕšťúýž",
    "Hungarian": "áéíóöőúüű",
    "Romanian": "ăâîșşțţ",
    "Croatian": "čćđšž",
}
_TURKISH = {"Turkish": "çğıöşü"}
_BALTIC = {"Lithuanian": "ąčęėįšųūž", "Latvian": "āčēģīķļņšūž", "Estonian": "äõöüšž"}
_ODD = {
    # Such letters in such places are those of another language in a wrong encoding.
    "Dutch": r"(?<![aeiouAEIOU])[ëï]",
    "French": r"[èê](?![bcdfglmnprstvx])|i[êë]|ù(?<!où)|à\B|œ(?!u)|(?<![aeoué])[ëï]",
    "Italian": r"[àèéìòù]\B",
    "Portuguese": r"ã(?![oe\b])\B|õ(?!e)",
    "Spanish": r"ñ(?![aeiouáéíóú])",
}
_LATIN = (
    # The most usual first: more than one may fit.
    ("cp1250", _CENTRAL),
    ("iso8859-2", _CENTRAL),
    ("cp1254", _TURKISH),
    ("cp1257", _BALTIC),
    ("cp850", _WESTERN),
    ("mac_roman", _WESTERN),
    ("cp852", _CENTRAL),
)


def legacy_encoding(sample: bytes) -> tuple[str, str]:
    """Return the encoding of a text that is no UTF-8, and a note where it may be another.

    Returns
    -------
    (str, str)
        The encoding; the note is empty if its letters are those of Western Europe.
    """
    # The last line may end within a character.
    whole = sample.splitlines()
    whole = whole[:-1] if len(whole) > 1 else whole
    lines = b"\n".join([line for line in whole if not line.isascii()][:MOST_LINES])
    if _fits(lines, UNSURE, _WESTERN):
        return UNSURE, ""
    found = _of_script(lines) or _of_characters(lines) or _of_latin(lines)
    shown = _first_word(lines.decode(found or UNSURE, errors="replace"))
    if found is None:
        return UNSURE, (
            f"The encoding is not sure: {UNSURE} makes {shown!r} of a word. Say --encoding NAME if "
            "that is wrong"
        )
    return found, (
        f"The encoding is taken for {found} by its letters, as in {shown!r}. Say --encoding NAME "
        "if that is wrong"
    )


def _decoded(lines: bytes, encoding: str) -> str | None:
    try:
        return lines.decode(encoding)
    except UnicodeDecodeError:
        return None


def _words(text: str) -> Iterator[str]:
    """Yield the words with letters beyond ASCII."""
    return (word for word in _WORD.findall(text) if not word.isascii())


def _first_word(text: str) -> str:
    return next((cell for cell in re.split(r"[,;\t|\"\s]+", text) if not cell.isascii()), "")


def _has_odd_symbols(text: str) -> bool:
    rest = _SYMBOL.sub("", text)
    return any(not c.isascii() and not _WORD.fullmatch(c) for c in rest)


def _of_script(lines: bytes) -> str | None:
    """Return the encoding that makes whole words of Cyrillic or Greek letters; None if none."""
    shares: dict[str, float] = {}
    for encoding, (small, common) in _SCRIPTS.items():
        text = _decoded(lines, encoding)
        if text is None or _has_odd_symbols(text):
            continue
        word = re.compile(f"[{small}]*")
        words = [w for w in _words(text) if w != "µ"]
        letters = "".join(words).lower()
        are_words = all(
            word.fullmatch(w.lower()) and (w.isupper() or w[1:].islower())
            for w in words
            if len(w) > 1
        )
        if len(letters) >= FEWEST_LETTERS and are_words:
            shares[encoding] = sum(c in common for c in letters) / len(letters)
    best = max(shares, key=lambda encoding: shares[encoding], default=None)
    return best if best is not None and shares[best] > COMMON else None


def _of_characters(lines: bytes) -> str | None:
    """Return the encoding that makes the characters of names of sensors; None if none."""
    shares: dict[str, float] = {}
    for encoding, common in _CHARACTERS.items():
        text = _decoded(lines, encoding)
        if text is None:
            continue
        letters = [c for c in text if not c.isascii() and _WORD.fullmatch(c)]
        known = [c for c in letters if c in common or (encoding == "cp932" and _KANA.match(c))]
        shares[encoding] = len(known) / len(letters) if letters else 0
    best = max(shares, key=lambda encoding: shares[encoding], default=None)
    return best if best is not None and shares[best] >= COMMON else None


def _of_latin(lines: bytes) -> str | None:
    """Return the first encoding that makes words of one language; None if none."""
    return next((encoding for encoding, found in _LATIN if _fits(lines, encoding, found)), None)


def _fits(lines: bytes, encoding: str, languages: dict[str, str]) -> bool:
    """Return whether all words are such as one of some languages has."""
    text = _decoded(lines, encoding)
    if text is None or _has_odd_symbols(text):
        return False
    words = set(_words(_SYMBOL.sub("", text)))
    if any(map(_has_odd_case, words)):
        return False
    return any(
        all(_is_of(word.lower(), language, alphabet) for word in words)
        for language, alphabet in languages.items()
    )


def _is_of(word: str, language: str, alphabet: str) -> bool:
    if any(not c.isascii() and c not in alphabet for c in word.replace("i̇", "i")):
        return False
    return language not in _ODD or re.search(_ODD[language], word) is None


def _has_odd_case(word: str) -> bool:
    """Return whether large and small letters are mixed as in no word, as in "DÄbit" and "øC"."""
    if not word[0].isascii() and word[0].islower() and word[1:2].isupper():
        return True
    for i, letter in enumerate(word):
        if i == 0 or letter.isascii() or not letter.isupper():
            continue
        behind = word[i + 1] if i + 1 < len(word) else letter
        if word[i - 1].isupper() != behind.isupper():
            return True
    return False
