"""The process pool of Python's own library."""

from concurrent.futures import ProcessPoolExecutor

from bench.peers.scheduling.tree import answer, asked, deal

if __name__ == "__main__":
    path, workers = asked()
    with ProcessPoolExecutor(workers) as executor:
        answer(deal("ProcessPoolExecutor", path, workers, workers, executor.submit))
