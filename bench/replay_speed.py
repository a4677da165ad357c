"""How many recorded requests a second go through the serving cascade, students' time left out.

python bench/replay_speed.py [--rows 500000]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from stillhouse.core.learning import Policy, Prediction
from stillhouse.flows.replay import Recorded, replay
from stillhouse.routing.cascade import shadow_coin


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=500_000)
    n = options.parse_args().rows
    start = 1_790_000_000_000_000
    rows = [
        Recorded(f"r{i}", start + i * 1_000_000, "text", "refund", 500.0, 6_000_000)
        for i in range(n)
    ]
    answers = [Prediction("refund", 0.9), Prediction("refund", 0.6), Prediction("track", 0.95)]

    def predict(texts: Sequence[str]) -> list[Prediction]:
        return [answers[i % 3] for i in range(len(texts))]

    policy = Policy("desk", "student", 0.8, 1)
    began = time.process_time()
    result = replay(rows, policy, predict, lambda row_id: shadow_coin(row_id, b"key", 0.01))
    seconds = time.process_time() - began
    assert result.total.requests == n
    print(f"{n:,} requests in {seconds:.2f} CPU seconds: {n / seconds:,.0f} a second on one core")


if __name__ == "__main__":
    main()
