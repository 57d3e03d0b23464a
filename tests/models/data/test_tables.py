"""Tables: an error names what cannot be read."""

from pathlib import Path

import pytest

from seqserve.models.config import ConfigInvalid
from seqserve.models.data.layout import NumbersFile
from seqserve.models.data.tables import read_table


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("when,a\n1,2\n", "line 1: column 'time' is missing; the header has 'when', 'a'; give data.time"),
        ("time,a,a\n", "the header has 'a' twice"),
        ("time\n", "the header has only 'time'"),
        ("time,a\n2026-01-01 00:00:00\n", "line 2: 1 cells"),
        ("time,a\nsoon,1\n", "line 2: time"),
        ("time,a\n2026-01-01,x\n", "line 2: a: could not"),
        ("time,a\n2026-01-01,\n", "line 2: a is empty"),
        ("time;a\n2026-01-01;1,5\n", 'line 2: a: .*give data.file.decimal = ","'),
        ("time,a\n01/02/2026,1\n02/02/2026,1\n", "line 2: time '01/02/2026' could have the day or the month"),
        ("time,a\n2026-01-01,inf\n", "line 2: a is inf"),
        ("time,a\n2026-01-01,1\n2026-01-02,1\n2026-01-04,1\n", "line 4, row 3: 2 days"),
    ],
)
def test_a_table_that_cannot_be_read_says_where(text: str, message: str, tmp_path: Path) -> None:
    """Faults of header, cells, numbers and spacing are each named."""
    path = tmp_path / "table.csv"
    path.write_text("\ufeff" + text)
    with pytest.raises(ConfigInvalid, match=message):
        read_table(path, "time")


def test_a_german_table_is_read_as_it_is_written(tmp_path: Path) -> None:
    """Semicolons and days first are recognized, decimal commas are said; signs of thousands are refused."""
    path = tmp_path / "table.csv"
    path.write_bytes("Zeit;Höhe\r\n30.03.2026 23:00;1,5\r\n31.03.2026 00:00;-2\r\n".encode("cp1252"))
    table = read_table(path, "Zeit", NumbersFile(encoding="cp1252", decimal=","))
    assert (table.columns, table.times) == (("Höhe",), ("2026-03-30 23:00:00", "2026-03-31 00:00:00"))
    assert table.values.tolist() == [[1.5], [-2.0]]
    path.write_text("Zeit;a\n30.03.2026 23:00;1.500,5\n")
    with pytest.raises(ConfigInvalid, match=r"line 2: a: '1\.500,5' has a point"):
        read_table(path, "Zeit", NumbersFile(decimal=","))


def test_hours_of_a_zone_are_even_when_clocks_are_set(tmp_path: Path) -> None:
    """Local hours that repeat in autumn are two instants; without the zone they are uneven."""
    path = tmp_path / "table.csv"
    hours = ("01", "02", "02", "03")
    path.write_text("time,a\n" + "".join(f"2026-10-25 {hour}:00,1\n" for hour in hours))
    table = read_table(path, "time", NumbersFile(timezone="Europe/Berlin"))
    assert [time[-6:] for time in table.times] == ["+02:00", "+02:00", "+01:00", "+01:00"]
    with pytest.raises(ConfigInvalid, match="line 4, row 3: 0:00:00 after"):
        read_table(path, "time")
