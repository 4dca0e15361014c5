"""Exact nearest neighbours by faiss and scikit-learn, with the same bank and patches as ours.

The module runs in out/peers-venv. The protocol is that of arena/worker.py.
"""

import numpy as np

from benchmarks.arena.worker import Job, Step, serve


def faiss_flat(job: Job) -> Step:
    """Search with faiss.IndexFlatL2, k = 1."""
    import faiss

    faiss.omp_set_num_threads(job["threads"])
    bank, queries = np.load(job["bank"]), np.load(job["queries"])
    index = faiss.IndexFlatL2(bank.shape[1])
    index.add(bank)
    return lambda: {"rows": index.search(queries, 1)[1].ravel().tolist()}


def sklearn_brute(job: Job) -> Step:
    """Search with sklearn.neighbors.NearestNeighbors, algorithm "brute"."""
    from sklearn.neighbors import NearestNeighbors

    model = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(np.load(job["bank"]))
    queries = np.load(job["queries"])
    return lambda: {"rows": model.kneighbors(queries, return_distance=False).ravel().tolist()}


if __name__ == "__main__":
    serve({"faiss": faiss_flat, "scikit-learn": sklearn_brute})
