"""The families of DINOv2 and DINOv3: names, sizes, and the parameters that each model has.

name -> VitShape -> official parameter names and shapes. Oquab et al. 2023 (arXiv:2304.07193); with
registers Darcet et al. 2023 (arXiv:2309.16588); Simeoni et al. 2025 (arXiv:2508.10104). Names and
sizes are those of the official files, github.com/facebookresearch/dinov2 and dinov3. DINOv3's
registers, `storage_tokens` there, have DINOv2's name here.
"""

from dataclasses import dataclass

MLP_RATIO = 4
HEAD_SIZE = 64  # of every model of the families
TRAINED_GRID = 37  # 518 px, the size of the last phase of training


@dataclass(frozen=True, kw_only=True)
class VitShape:
    """Sizes of a vision transformer, and how it knows positions."""

    width: int  # D, numbers of a token
    blocks: int
    registers: int = 0
    patch_px: int = 14
    epsilon: float = 1e-6  # of the norms
    # Positions turn queries and keys, in place of embeddings that are added to the patches.
    rotary: bool = False
    # The official models without registers add 0.1 cells to the grid and do not antialias.
    offset: float = 0.1
    antialias: bool = False

    @property
    def heads(self) -> int:
        """Heads of the attention."""
        return self.width // HEAD_SIZE

    @property
    def prefix(self) -> int:
        """Tokens in front of the patches: the class token and the registers."""
        return 1 + self.registers


def _family() -> dict[str, VitShape]:
    shapes = {}
    for letter, width, blocks in (("s", 384, 12), ("b", 768, 12), ("l", 1024, 24)):
        name = f"dinov2_vit{letter}14"
        shapes[name] = VitShape(width=width, blocks=blocks)
        shapes[f"{name}_reg"] = VitShape(
            width=width, blocks=blocks, registers=4, offset=0.0, antialias=True
        )
        shapes[f"dinov3_vit{letter}16"] = VitShape(
            width=width, blocks=blocks, registers=4, patch_px=16, epsilon=1e-5, rotary=True
        )
    return shapes


VITS = _family()


def official_shapes(shape: VitShape) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter of an official file that the patch tokens depend on.

    `pos_embed` may have any square grid; TRAINED_GRID is that of the official files.
    """
    width, hidden = shape.width, MLP_RATIO * shape.width
    expected: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "patch_embed.proj.weight": (width, 3, shape.patch_px, shape.patch_px),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    if not shape.rotary:
        expected["pos_embed"] = (1, 1 + TRAINED_GRID**2, width)
    if shape.registers:
        expected["register_tokens"] = (1, shape.registers, width)
    for number in range(shape.blocks):
        block = {
            "norm1": (width,),
            "attn.qkv": (3 * width, width),
            "attn.proj": (width, width),
            "norm2": (width,),
            "mlp.fc1": (hidden, width),
            "mlp.fc2": (width, hidden),
        }
        for leaf, sides in block.items():
            expected[f"blocks.{number}.{leaf}.weight"] = sides
            expected[f"blocks.{number}.{leaf}.bias"] = sides[:1]
        expected[f"blocks.{number}.ls1.gamma"] = (width,)
        expected[f"blocks.{number}.ls2.gamma"] = (width,)
    return expected
