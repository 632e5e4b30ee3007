import pytest

from pixelsr.utils.strict_files import parse


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"a": 1, "a": 1}', "the key 'a' occurs twice"),
        (b'[{"b": {"a": 1, "c": 2, "a": 3}}]', "the key 'a' occurs twice"),
        (b"[NaN]", "NaN is not a JSON number"),
        (b"-Infinity", "-Infinity is not a JSON number"),
        (b"1e999", "the number 1e999 is too large"),
        (b"9" * 101, "an integer has 101 digits, expected at most 100"),
        (b"9" * 5000, "an integer has 5000 digits"),
        (b"[" * 33 + b"]" * 33, "nested deeper than 32 levels"),
        (b'{"a":' * 900 + b"1" + b"}" * 900, "nested deeper than 32 levels"),
        (b"[" * 100_000, "nested deeper than 32 levels"),
        (b"\xff", "can't decode byte 0xff"),
        ('{"é": 1}'.encode("utf-16"), "can't decode"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"{} {}", "Extra data"),
        (b"", "Expecting value"),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_what_is_no_json_of_the_standard_is_refused(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse(text)


def test_json_of_the_standard_is_read():
    text = '{"é": [1, 2.5, 1e-999, null, true, "NaN"], "b": {"a": 1}, "c": {"a": 1}}'
    expected = {"é": [1, 2.5, 0, None, True, "NaN"], "b": {"a": 1}, "c": {"a": 1}}
    assert parse(text) == parse(text.encode()) == expected
    assert parse("[" * 32 + "]" * 32)
    assert parse("9" * 100) == 10**100 - 1
