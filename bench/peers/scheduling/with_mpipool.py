"""The pool of mpi4py: the first rank deals, so it is started on one rank more than there are workers."""

from bench.peers.scheduling.tree import answer, asked, deal

if __name__ == "__main__":
    from mpi4py.futures import MPICommExecutor

    path, workers = asked()
    with MPICommExecutor() as executor:
        if executor is not None:
            answer(deal("MPIPoolExecutor", path, workers, workers + 1, executor.submit))
