"""Time spent waiting for data."""

from emastudy.engine.training.throughput import Timed


def test_time_spent_waiting_for_data_is_told_from_the_rest(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def loader():
        for batch in range(5):
            now[0] += 1.0
            yield batch

    timed = Timed(loader())
    for _ in timed:
        now[0] += 3.0
    assert (timed.count, timed.waiting, timed.working) == (5, 5.0, 15.0)
    assert timed.summary(8.0).startswith("2.0 images/s, 25% of the time waiting for data; more")
    assert Timed([]).summary(8.0) == "no batch was loaded"
