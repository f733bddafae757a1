"""User data on the way in."""

from __future__ import annotations

import decimal
import logging
import math
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest

from vigie.detectors.data.matrices import Table, as_matrix, as_row, training_table
from vigie.errors import InvalidDataError

AB = ("a", "b")


# as_matrix


def test_a_table_holds_float64_whatever_it_was_made_of():
    for X in ([[1, 2], [3, 4]], np.array([[1, 2], [3, 4]], dtype=np.int8), ((1, 2), (3, 4))):
        table = as_matrix(X, AB)
        assert table.values.dtype == np.float64
        assert table.values.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_the_callers_array_is_not_the_tables():
    X = np.ones((3, 2))
    table = as_matrix(X, AB)
    X[0, 0] = 7.0
    assert table.values[0, 0] == 1.0


def test_columns_are_chosen_and_put_in_order_by_name():
    frame = pd.DataFrame({"b": [2.0], "noise": ["x"], "a": [1.0]})
    table = as_matrix(frame, AB)
    assert table.feature_names == AB
    assert table.values.tolist() == [[1.0, 2.0]]


def test_a_data_frame_with_numbered_columns_is_known_by_those_numbers():
    frame = pd.DataFrame([[1.0, 2.0], [3.0, 4.0]])
    names = as_matrix(frame).feature_names
    assert names == ("0", "1")
    assert as_matrix(frame[[1, 0]], names).values.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_all_missing_columns_are_named():
    with pytest.raises(InvalidDataError, match=r"Missing columns: a, c.*Expected: a, b, c"):
        as_matrix(pd.DataFrame({"b": [1.0]}), ("a", "b", "c"))


def test_a_column_that_occurs_twice_cannot_be_chosen_by_name():
    with pytest.raises(InvalidDataError):
        as_matrix(pd.DataFrame([[1.0, 2.0, 3.0]], columns=["a", "a", "b"]), AB)


def test_a_series_is_no_table():
    with pytest.raises(InvalidDataError, match="table of numbers"):
        as_matrix(pd.Series([1.0, 2.0]), AB)


def test_the_number_of_bad_values_is_told():
    X = [[1.0, math.nan], [math.inf, 2.0], [math.nan, 1.0]]
    with pytest.raises(InvalidDataError, match=r"data\[0\]\.b.*3 such values"):
        as_matrix(X, AB)


def test_without_names_columns_are_counted_in_the_message_too():
    with pytest.raises(InvalidDataError, match=r"data\[1\]\.feature_2"):
        as_matrix([[1.0, 2.0], [1.0, math.nan]])


@pytest.mark.parametrize(
    ("X", "place"),
    [
        ([[1.0, 2.0], [3.0, "hot"]], r"data\[1\]\.b: 'hot'"),
        (np.array([["1.0", "hot"]]), r"data\[0\]\.a: '1\.0'"),
        (np.array([[1.0, "hot"]], dtype=object), r"data\[0\]\.b: 'hot'"),
        ([[1.0, b"2"]], r"data\[0\]\.b: b'2'"),
        ([[1.0, {"v": 2}]], r"data\[0\]\.b"),
        (np.array([[True, False]]), r"data\[0\]\.a"),
        (pd.DataFrame({"a": [1.0], "b": [True]}), r"data\[0\]\.b"),
        (pd.DataFrame({"a": [1, 2], "b": [3, None]}, dtype="Int64"), r"data\[1\]\.b"),
        (pd.DataFrame({"a": ["x", "y"], "b": [1.0, 2.0]}, dtype=object), r"data\[0\]\.a: 'x'"),
        (pd.DataFrame({"a": ["x", "y"], "b": ["u", "v"]}), r"data\[0\]\.a: 'x'"),
    ],
    ids=[
        "text in a list",
        "array of text",
        "text among objects",
        "bytes",
        "mapping",
        "truth values",
        "truth in a frame",
        "nullable",
        "objects in a frame",
        "text in a frame",
    ],
)
def test_a_cell_that_holds_no_number_is_named(X, place):
    with pytest.raises(InvalidDataError, match=place):
        as_matrix(X, AB)


@pytest.mark.parametrize(
    "X",
    [
        None,
        7.0,
        "1,2",
        {"a": [1.0]},
        {1.0, 2.0},
        (row for row in [[1.0, 2.0]]),
        np.float64(3.0),
        np.array([["2026-01-05"]], dtype="datetime64[D]"),
        [[np.timedelta64(1)]],
        [[1j, 2j]],
    ],
    ids=[
        "None",
        "number",
        "text",
        "dict",
        "set",
        "generator",
        "scalar",
        "dates",
        "times",
        "complex",
    ],
)
def test_what_is_no_table_of_numbers_is_refused(X):
    with pytest.raises(InvalidDataError, match="number"):
        as_matrix(X, ("a",))


@pytest.mark.parametrize(
    ("X", "place"),
    [
        ([[1.0, 2.0], [3.0]], r"data\[1\]: The row has 1 values, the first has 2"),
        ([[1.0], [3.0, 4.0]], r"data\[1\]: The row has 2 values, the first has 1"),
        ([[1.0, 2.0], 3.0], r"data\[1\]"),
        ([1.0, [2.0, 3.0]], r"data\[[01]\]"),
        ([[1.0, [2.0]], [3.0, 4.0]], r"data"),
        ([np.ones(2), np.ones(3)], r"data\[1\]: The row has 3 values"),
        ([[1.0, 2.0], None], r"data\[1\]"),
    ],
    ids=["shorter", "longer", "number", "number first", "nested", "arrays", "None"],
)
def test_ragged_rows_are_named(X, place):
    with pytest.raises(InvalidDataError, match=place):
        as_matrix(X, AB)


def test_a_number_too_large_for_float64_is_refused_with_the_place():
    with pytest.raises(InvalidDataError, match=r"data\[0\]\.a"):
        as_matrix([[10**400, 2]], AB)


def test_large_whole_numbers_are_numbers():
    assert as_matrix([[10**30, 2]], AB).values.tolist() == [[1e30, 2.0]]


def test_no_rows_are_a_table_once_the_columns_are_known():
    assert as_matrix(np.empty((0, 2)), AB).values.shape == (0, 2)
    with pytest.raises(InvalidDataError, match="no values"):
        as_matrix(np.empty((0, 2)))
    with pytest.raises(InvalidDataError, match="no values"):
        as_matrix(np.empty((2, 0)))


def test_the_error_says_what_to_do():
    with pytest.raises(InvalidDataError) as caught:
        as_matrix([[1.0, math.nan]], AB)
    assert caught.value.field == "data[0].b"
    assert caught.value.remedy
    assert isinstance(caught.value, ValueError)


# Fingerprint


def test_the_same_data_have_the_same_fingerprint_in_any_form():
    X = np.arange(6.0).reshape(3, 2)
    prints = {
        as_matrix(form, AB).fingerprint
        for form in (
            X,
            X.tolist(),
            np.asfortranarray(X),
            pd.DataFrame(X, columns=AB),
            X.astype(int),
        )
    }
    assert len(prints) == 1


def test_other_data_names_or_shapes_have_other_fingerprints():
    X = np.arange(4.0).reshape(2, 2)
    changed = X.copy()
    changed[1, 1] = np.nextafter(3.0, 4.0)
    tables = [
        Table(X, AB),
        Table(changed, AB),
        Table(X, ("b", "a")),
        Table(X[::-1], AB),
        Table(X.reshape(1, 4), AB),
    ]
    assert len({table.fingerprint for table in tables}) == len(tables)


# training_table


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, ("feature_1", "feature_2", "feature_3")),
        (["x", "y", "z"], ("x", "y", "z")),
        (("x", "y", "z"), ("x", "y", "z")),
        (np.array(["x", "y", "z"]), ("x", "y", "z")),
        (["f1", "f2", ...], ("f1", "f2", "f3")),
        (["sensor", ...], ("sensor", "sensor2", "sensor3")),
        (["rms", "axis7", ...], ("rms", "axis7", "axis8")),
        (["x", "y", "z", ...], ("x", "y", "z")),
        ([...], ("feature_1", "feature_2", "feature_3")),
        (["température", "druck °C", "圧力"], ("température", "druck °C", "圧力")),
    ],
)
def test_names_may_be_given_counted_or_left_out(given, expected):
    X = np.arange(12.0).reshape(4, 3)
    assert training_table(X, given).feature_names == expected
    assert training_table(X.tolist(), given).feature_names == expected


def test_names_are_counted_for_rows_in_a_list_of_arrays():
    rows = list(np.arange(12.0).reshape(4, 3))
    assert training_table(rows, ["f1", ...]).feature_names == ("f1", "f2", "f3")


def test_leading_zeros_go_on():
    X = np.arange(12.0).reshape(4, 3)
    assert training_table(X, ["s08", ...]).feature_names == ("s08", "s09", "s10")


def test_an_ellipsis_in_the_middle_is_no_name():
    with pytest.raises(InvalidDataError, match=r"feature_names\[1\]"):
        training_table(np.arange(12.0).reshape(4, 3), ["a", ..., "c"])


def test_more_names_than_columns_are_too_many_with_an_ellipsis_too():
    with pytest.raises(InvalidDataError, match="2 values, but 3"):
        training_table(np.arange(8.0).reshape(4, 2), ["a", "b", "c", ...])


def test_one_text_is_not_a_list_of_names():
    with pytest.raises(InvalidDataError, match="feature_names"):
        training_table(np.arange(12.0).reshape(4, 3), "rms")


def test_names_choose_columns_of_a_data_frame():
    frame = pd.DataFrame({"a": [1.0, 2.0], "text": ["x", "y"], "b": [3.0, 5.0]})
    table = training_table(frame, ["b", "a"])
    assert table.feature_names == ("b", "a")
    assert table.values.tolist() == [[3.0, 1.0], [5.0, 2.0]]


def test_other_names_rename_the_columns_of_a_data_frame():
    frame = pd.DataFrame({"x": [1.0, 2.0], "y": [3.0, 5.0]})
    table = training_table(frame, ["a", "b"])
    assert table.feature_names == AB
    assert table.values.tolist() == [[1.0, 3.0], [2.0, 5.0]]


@pytest.mark.parametrize("width", [3, 5])
def test_an_ellipsis_renames_the_columns_of_a_data_frame_of_any_width(width):
    frame = pd.DataFrame(np.arange(4.0 * width).reshape(4, width), columns=list("vwxyz")[:width])
    expected = tuple(f"f{number + 1}" for number in range(width))
    assert training_table(frame, ["f1", "f2", ...]).feature_names == expected


def test_names_that_half_fit_a_data_frame_are_refused():
    frame = pd.DataFrame({"x": [1.0, 2.0], "y": [3.0, 5.0], "z": [1.0, 2.0]})
    with pytest.raises(InvalidDataError, match="Missing columns: b"):
        training_table(frame, ["x", "b"])


def test_names_that_occur_twice_are_all_told():
    with pytest.raises(InvalidDataError, match="more than once: a, b"):
        training_table(np.arange(10.0).reshape(2, 5), ["a", "b", "a", "c", "b"])


@pytest.mark.parametrize("name", ["", "  ", None, 3, b"rms"])
def test_what_is_no_name_is_refused(name):
    with pytest.raises(InvalidDataError, match=r"feature_names\[1\]"):
        training_table(np.arange(6.0).reshape(3, 2), ["a", name])


def test_one_row_is_too_few():
    with pytest.raises(InvalidDataError, match="One row"):
        training_table([[1.0, 2.0]], AB)


def test_each_constant_column_is_warned_about_once(caplog):
    X = np.array([[1.0, 5.0, 0.0], [2.0, 5.0, 0.0], [3.0, 5.0, 0.0]])
    with caplog.at_level(logging.WARNING):
        table = training_table(X, ["moving", "stuck", "off"])
    assert table.values.shape == (3, 3)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert "'stuck' is constant (5.0)" in messages[0]
    assert "'off' is constant (0.0)" in messages[1]


def test_a_column_that_varies_in_one_row_is_not_constant(caplog):
    X = np.ones((100, 2))
    X[:, 0] = np.arange(100)
    X[57, 1] = 1.0 + 1e-9
    with caplog.at_level(logging.WARNING):
        training_table(X, AB)
    assert not caplog.records


# as_row


@pytest.mark.parametrize(
    "features",
    [
        {"a": 1.0, "b": 2.0},
        {"b": 2, "a": 1, "c": "not looked at"},
        MappingProxyType({"a": np.float32(1.0), "b": np.int8(2)}),
        {"a": decimal.Decimal(1), "b": np.array(2.0)},
    ],
    ids=["floats", "ints in another order", "numpy", "other numbers"],
)
def test_a_reading_becomes_a_row_in_the_models_order(features):
    row = as_row(features, AB)
    assert row.dtype == np.float64
    assert row.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        "1.0",
        b"1",
        "",
        math.nan,
        math.inf,
        -math.inf,
        1j,
        [1.0],
        {},
        10**400,
        pd.NA,
    ],
    ids=repr,
)
def test_a_value_that_is_no_finite_number_is_named(value):
    with pytest.raises(InvalidDataError) as caught:
        as_row({"a": 1.0, "b": value}, AB)
    assert caught.value.field == "features.b"


def test_all_missing_features_are_told_and_the_first_is_the_place():
    with pytest.raises(InvalidDataError, match="It is missing, and so are c") as caught:
        as_row({"b": 1.0}, ("a", "b", "c"))
    assert caught.value.field == "features.a"


def test_a_feature_with_a_wrong_name_is_named_beside_the_right_one():
    with pytest.raises(InvalidDataError) as caught:
        as_row({"rms": 1.0, "temprature": 61.0}, ("rms", "temperature"))
    assert str(caught.value).startswith(
        "features.temperature: It is missing. 'temprature' was given, which the model does not know"
    )


@pytest.mark.parametrize("features", [[1.0, 2.0], "a=1", None, np.ones(2), 3.0])
def test_a_reading_without_names_is_refused(features):
    with pytest.raises(InvalidDataError, match="by name"):
        as_row(features, AB)


def test_times_as_text_are_answered_with_how_to_make_times_of_them():
    frame = pd.DataFrame({"time": ["2026-01-05 08:00:00"] * 3, "flow": [1.0, 2.0, 3.0]})
    with pytest.raises(InvalidDataError, match=r"data\[0\]\.time.* pandas\.to_datetime"):
        training_table(frame, None, {})
