"""The aims of `make bench-peers`: minimum ratios of the peers' seconds or memory to ours."""

from itertools import product

from benchmarks.harness.headlines import OURS, Target

SHARES = {"1 %": 0.01, "10 %": 0.1}
WIDE = "wide_resnet50_2"
TORCH, OPENVINO, INT8 = "anomalib, torch", "anomalib, OpenVINO f32", "ours, int8"
TARGETS = (
    Target(
        words="features + coreset, 1 %: anomalib / ours",
        section="fit", case=f"{WIDE}, 1 %", peer="anomalib", at_least=8,
    ),
    Target(
        words="features + coreset, 10 %: anomalib / ours",
        section="fit", case=f"{WIDE}, 10 %", peer="anomalib", at_least=30,
    ),
    Target(
        words="peak memory of fit: anomalib / ours",
        section="fit", case=f"{WIDE}, 1 %", peer="anomalib", at_least=2, field="peak_mb",
    ),
    *(
        Target(
            words=f"inference, {share} bank: {peer} / ours",
            section="inference", case=f"{WIDE}, {share}", peer=peer, at_least=at_least,
        )
        for share, peer, at_least in (
            ("1 %", TORCH, 1.5), ("10 %", TORCH, 1.5),
            ("1 %", OPENVINO, 1.2), ("10 %", OPENVINO, 1.5),
        )
    ),
    *(
        Target(
            words=f"inference, {share} bank: anomalib, torch / our int8",
            section="inference", case=f"{WIDE}, {share}", peer=TORCH, at_least=3, us=INT8,
        )
        for share in SHARES
    ),
    *(
        Target(
            words=f"peak memory of inference, {share} bank: {peer} / ours",
            section="inference", case=f"{WIDE}, {share}", peer=peer, at_least=2, field="peak_mb",
        )
        for share, peer in product(SHARES, (TORCH, OPENVINO))
    ),
    *(
        Target(
            words=f"search 784 x 15,680 x 1536: faiss flat / {us}",
            section="search", case="784 x 15,680 x 1536", peer="faiss IndexFlatL2", at_least=5,
            us=us,
        )
        for us in (OURS, "ours, --search pca")
    ),
    Target(
        words="coreset 1 %: torch loop / ours",
        section="coreset", case="1 %", peer="torch loop, cdist", at_least=60,
    ),
    Target(
        words="coreset 1 %: NumPy gemv loop / ours",
        section="coreset", case="1 %", peer="NumPy gemv loop", at_least=8,
    ),
)  # fmt: skip
