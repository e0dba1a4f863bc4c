"""What several tests of data share: one table in every form."""

from __future__ import annotations

import pandas as pd
import pytest


@pytest.fixture(params=["csv", "parquet", "arrow"])
def save(request, tmp_path):
    """Write a table in one of the forms that are read, and give its data.name."""

    def write(table: pd.DataFrame, name: str = "table") -> str:
        path = tmp_path / f"{name}.{request.param}"
        if request.param == "csv":
            table.to_csv(path, index=False)
        elif request.param == "parquet":
            table.to_parquet(path, index=False)
        else:
            table.to_feather(path)
        return f"{request.param}:{path}"

    return write
