"""loky, the pool that joblib uses."""

from bench.peers.scheduling.tree import answer, asked, deal

if __name__ == "__main__":
    from loky import ProcessPoolExecutor

    path, workers = asked()
    with ProcessPoolExecutor(workers) as executor:
        answer(deal("loky", path, workers, workers, executor.submit))
