"""Exact nearest neighbours by faiss and scikit-learn beside ours: the same bank, the same patches.

Runs in out/peers-venv. See peer_worker for the protocol.
"""

import numpy as np

from benchmarks.arena.worker import Job, Step, serve


def faiss_flat(job: Job) -> Step:
    """faiss.IndexFlatL2, k = 1."""
    import faiss

    faiss.omp_set_num_threads(job["threads"])
    bank, queries = np.load(job["bank"]), np.load(job["queries"])
    index = faiss.IndexFlatL2(bank.shape[1])
    index.add(bank)
    return lambda: {"rows": index.search(queries, 1)[1].ravel().tolist()}


def sklearn_brute(job: Job) -> Step:
    """sklearn.neighbors.NearestNeighbors, algorithm "brute"."""
    from sklearn.neighbors import NearestNeighbors

    model = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(np.load(job["bank"]))
    queries = np.load(job["queries"])
    return lambda: {"rows": model.kneighbors(queries, return_distance=False).ravel().tolist()}


if __name__ == "__main__":
    serve({"faiss": faiss_flat, "scikit-learn": sklearn_brute})
