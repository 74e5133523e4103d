"""Tables of all common dialects are read alike or refused with the cause."""

import unicodedata
from pathlib import Path

import pytest

from segpipe.data.tables import read_columns, read_table, to_numbers
from segpipe.errors import DatasetError

ROWS = [{"image": "mel/a.jpg", "label": "None"}, {"image": "b", "label": "sun spot"}]
PLAIN = "image,label\nmel/a.jpg,None\nb,sun spot\n"


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.encode(),
        PLAIN.encode("utf-8-sig"),
        PLAIN.encode("utf-16"),
        PLAIN.encode("utf-16-be").join([b"\xfe\xff", b""]),
        PLAIN.replace("\n", "\r\n").encode(),
        PLAIN.replace(",", ";").encode(),
        PLAIN.replace(",", "\t").encode(),
        PLAIN.replace(",", " , ").encode(),
        PLAIN.replace(",", '";"').replace("\n", '"\r\n"').join(['"', ""]).rstrip('"').encode(),
        b"sep=;\r\n" + PLAIN.replace(",", ";").encode(),
        (PLAIN + "\n,\n ,  \n").encode(),
        ("\n" + PLAIN).encode(),
        PLAIN.replace("\n", ",\n").encode(),
        PLAIN.replace("\n", ",,\n").encode(),
    ],
)
def test_all_dialects_give_the_same_table(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "table.csv").write_bytes(content)
    assert read_table(tmp_path / "table.csv").to_dict("records") == ROWS
    assert read_columns(tmp_path / "table.csv") - {""} == {"image", "label"}


@pytest.mark.parametrize("word", ["None", "NA", "null", "nan", "N/A", "NaN", "-", "0", "true", "1e5", "007"])
def test_only_empty_fields_are_missing(tmp_path: Path, word: str) -> None:
    (tmp_path / "table.csv").write_text(f"image,label\n{word},{word}\nx,\n")
    table = read_table(tmp_path / "table.csv")
    assert (table["image"][0], table["label"][0]) == (word, word)
    assert table["label"].isna().to_list() == [False, True]


def test_fields_are_in_nfc(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(unicodedata.normalize("NFD", "image,label\né,nævus mélanocytaire\n"))
    assert read_table(tmp_path / "table.csv")["label"][0] == "nævus mélanocytaire"


def test_quoted_fields_may_hold_separators(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text('"image","label"\n"a;b, c","x"\n')
    assert read_table(tmp_path / "table.csv")["image"][0] == "a;b, c"


def test_numbers_may_have_a_decimal_comma(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("image;MEL\na;1,0\nb;0.5\nc;?\n")
    assert to_numbers(read_table(tmp_path / "table.csv")["MEL"]).fillna(-1).to_list() == [1, 0.5, -1]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (b"", "no columns"),
        (b"a,b\n1,2,3,4\n1\n1,2,3,4,5,6\n", "a row has 4 fields, more than the 2 columns: 1,2,3,4"),
        (b"\xff\xd8\xff\xe0", "decode"),
        ("image,label\né,x\n".encode("cp1252"), "save it as CSV UTF-8"),
        (b'image,label\n"a,x\n', "unexpected end"),
        (b"image,label,label\na,x,y\n", "label occurs twice"),
        (b"PK\x03\x04rest", "workbook"),
        (b"image,label\na\0b,x\n", "zero bytes"),
    ],
)
def test_other_files_are_refused_with_the_cause(tmp_path: Path, content: bytes | None, reason: str) -> None:
    if content is not None:
        (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(DatasetError, match=rf"must be a table with commas, semicolons or tabs, .*{reason}"):
        read_table(tmp_path / "table.csv")
