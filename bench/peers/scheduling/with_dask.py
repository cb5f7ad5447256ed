"""dask.distributed: a scheduler and workers of one thread each on this machine, or at the address that is given."""

import os

from bench.peers.scheduling.tree import answer, asked, deal

ADDRESS = "PYRAMIDAI_BENCH_DASK"
"""Names in the environment the address of a scheduler that runs already."""

if __name__ == "__main__":
    from distributed import Client, LocalCluster

    path, workers = asked()
    address = os.environ.get(ADDRESS)
    cluster = address or LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
    with Client(cluster) as client:
        client.wait_for_workers(workers)
        answer(deal("dask", path, workers, workers, lambda *call: client.submit(*call, pure=False)))
        if address is None:
            cluster.close()
