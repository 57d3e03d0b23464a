"""Which rows a forecaster is measured on."""

from pathlib import Path

from seqserve.models.config import ForecasterConfig, read_config
from seqserve.models.data.tables import read_table
from seqserve.models.evaluate.forecaster import to_measure
from tests.models.small import FORECASTER, write_table

ROWS = FORECASTER["data"]["train"] + FORECASTER["data"]["validation"]


def test_rows_that_were_seen_are_known_again(tmp_path: Path) -> None:
    """By time and values, in any order of columns and with fewer digits; not so rows of another place."""
    path = write_table(tmp_path / "loads.csv", ROWS + 50)
    table, config = read_table(path, "time"), read_config(FORECASTER, "test")
    assert isinstance(config, ForecasterConfig)
    seen = dict(zip(table.columns, table.values[ROWS - 1].tolist(), strict=True))
    card = {"last_row": {"time": table.times[ROWS - 1], "values": seen}}
    turned = [
        ",".join([time[:16], *(f"{x:.4f}" for x in row[::-1])])
        for time, row in zip(table.times, table.values.tolist(), strict=True)
    ]
    rewritten = tmp_path / "rewritten.csv"
    rewritten.write_text("\n".join(["time,west,north,east", *turned]) + "\n")
    for file in (path, rewritten):
        stretch = to_measure(config, file, card)
        assert (stretch.first, len(stretch.table.times)) == (ROWS, ROWS + 50)
    fewer = config.model_copy(update={"data": config.data.model_copy(update={"test": 30})})
    short = to_measure(fewer, path, card)
    assert (short.first, len(short.table.times)) == (ROWS, ROWS + 30)
    card["last_row"]["values"] = {name: value + 1 for name, value in seen.items()}
    assert to_measure(config, path, card).first == 0
