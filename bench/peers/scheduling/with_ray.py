"""Ray: a task a chunk, on as many CPUs as workers are wanted."""

from bench.peers.scheduling.tree import answer, asked, deal

if __name__ == "__main__":
    import os

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    path, workers = asked()
    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, configure_logging=False)

    @ray.remote(num_cpus=1)
    def call(function, *arguments):
        """Any of the loop's."""
        return function(*arguments)

    answer(deal("Ray", path, workers, workers, lambda *words: call.remote(*words).future()))
    ray.shutdown()
