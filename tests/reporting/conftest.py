from __future__ import annotations

import pytest
import synthetic_experiment as synthetic


@pytest.fixture
def small(tmp_path):
    """One task, two methods, two seeds, free to be damaged."""
    tasks, methods = {"novel": synthetic.TASKS["novel"]}, {name: synthetic.METHODS[name] for name in ("kind", "full")}
    return synthetic.write_experiment(tmp_path / "smoke", tasks, methods), tasks, methods
