"""Tables: an error names what cannot be read."""

from pathlib import Path

import pytest

from seqserve.models.config import ConfigInvalid
from seqserve.models.data.tables import read_table


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("when,a\n1,2\n", "'time' and distinct others"),
        ("time,a,a\n", "'time' and distinct others"),
        ("time,a\n2026-01-01 00:00:00\n", "line 2: 1 cells"),
        ("time,a\nsoon,1\n", "line 2: time"),
        ("time,a\n2026-01-01,x\n", "line 2: a: could not"),
        ("time,a\n2026-01-01,inf\n", "line 2: a is inf"),
        ("time,a\n2026-01-01,1\n2026-01-02,1\n2026-01-04,1\n", "row 3: 2 days"),
    ],
)
def test_a_table_that_cannot_be_read_says_where(text: str, message: str, tmp_path: Path) -> None:
    """Faults of header, cells, numbers and spacing are each named."""
    path = tmp_path / "table.csv"
    path.write_text("\ufeff" + text)
    with pytest.raises(ConfigInvalid, match=message):
        read_table(path, "time")
