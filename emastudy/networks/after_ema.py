"""Context modules that came after EMA, which it is compared with. Convs start as torch's do.

Each is made by NAME(C, **options), which raises an InputError where an argument is out of its
range, and maps (B, C, H, W) to the same shape. In the equations X is the map as a matrix (N, C) of
N = H·W pixels, and softmax_n, say, normalises over the index n.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from emastudy import options
from emastudy.em.iteration import wide
from emastudy.errors import InputError
from emastudy.networks.context import AttentionBlock
from emastudy.networks.layers import as_map, batch_norm, classifier, conv_bn_relu, pixels
from emastudy.options import NonNegativeInt, PositiveInt, Probability


class Hamburger(nn.Module):
    r"""Non-negative matrix factorisation: like EMA, it rebuilds the map from a few vectors.

    .. math:: Y = Z + \mathrm{BN}\big(W_u\, D C\big), \quad
        (D, C) \approx \arg\min_{D, C \ge 0} \lVert X - D C \rVert^2, \quad X = \mathrm{ReLU}(W_l Z)

    X is (C, N) here, D holds R vectors and C (R, N) every pixel's shares of them. Multiplicative
    updates improve both in turn; gradients go through one last update of the shares alone.

    Args:
        channels: C.
        num_bases: R.
        num_iterations: Updates of both before the last one.

    Raises:
        InputError: ``num_bases`` or ``num_iterations`` is less than 1.

    Source: Geng et al., "Is Attention Better Than Matrix Decomposition?", ICLR 2021, Section 3 and
    Algorithm 2; shares that start as softmax_r(DᵀX) and 64 vectors from the authors' code. Differs
    from that code, which draws D anew for every image: here it is drawn once, so that a network
    is a function of its image. It also makes a seventh update in evaluation and ends in a ReLU.
    """

    start: Tensor

    @options.checked
    def __init__(
        self, channels: PositiveInt, num_bases: PositiveInt = 64, num_iterations: PositiveInt = 6
    ) -> None:
        super().__init__()
        self.num_iterations = num_iterations
        self.lower = nn.Conv2d(channels, channels, 1)
        self.upper = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.register_buffer("start", F.normalize(torch.rand(channels, num_bases), dim=0))

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Factorise, rebuild and add to the input."""
        x = F.relu(self.lower(features)).flatten(2)
        with _without_autocast(x):
            bases, shares = self.factorize(wide(x.detach()))
            rebuilt = bases @ update_shares(wide(x), bases, shares)
        y = rebuilt.to(x.dtype).reshape(features.shape)
        change: Tensor = self.norm(self.upper(y))
        return features + change

    @torch.no_grad()
    def factorize(
        self, x: Float[Tensor, "b c n"]
    ) -> tuple[Float[Tensor, "b c r"], Float[Tensor, "b r n"]]:
        """D and C after all updates but the last."""
        bases = self.start.to(x.dtype).expand(len(x), -1, -1)
        shares = (bases.mT @ x).softmax(dim=1)
        for _ in range(self.num_iterations):
            shares = update_shares(x, bases, shares)
            bases = update_shares(x.mT, shares.mT, bases.mT).mT  # Xᵀ = CᵀDᵀ: the same update
        return bases, shares


def update_shares(
    x: Float[Tensor, "b c n"], bases: Float[Tensor, "b c r"], shares: Float[Tensor, "b r n"]
) -> Float[Tensor, "b r n"]:
    """The multiplicative update C ∘ DᵀX / DᵀDC, which never increases ‖X - DC‖.

    Source: Lee and Seung, "Algorithms for Non-negative Matrix Factorization", NeurIPS 2000.
    """
    return shares * (bases.mT @ x) / (bases.mT @ bases @ shares + 1e-6)


class ExternalAttention(nn.Module):
    r"""Every pixel reads from a memory that is learnt and that all images share.

    .. math:: Y = \mathrm{ReLU}\big(X + \mathrm{BN}(W_o\, A M_v)\big), \quad
        A_{ns} = \hat A_{ns} / \textstyle\sum_t \hat A_{nt}, \quad
        \hat A = \mathrm{softmax}_n\big(W_q X M_k^\top\big)

    The keys M_k and values M_v hold S vectors each. A's first normalisation runs over the pixels,
    the second over the memory.

    Args:
        channels: C.
        num_memories: S.

    Source: Guo et al., "Beyond Self-attention: External Attention using Two Linear Layers for
    Visual Tasks", arXiv 2105.02358, Section 3.2, Eqs 5, 6 and 8 to 10; the convs around it, the
    ReLU and values that start as the keys from the authors' code.
    """

    @options.checked
    def __init__(self, channels: PositiveInt, num_memories: PositiveInt = 64) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels, 1)
        self.keys = nn.Conv2d(channels, num_memories, 1, bias=False)
        self.values = nn.Conv2d(num_memories, channels, 1, bias=False)
        self.out = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        with torch.no_grad():
            self.values.weight.copy_(self.keys.weight.transpose(0, 1))

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Read from the memory and add to the input."""
        read: Tensor = self.values(self.attention(features).to(features.dtype))
        return F.relu(features + self.norm(self.out(read)))

    def attention(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b s h w"]:
        """A, float32 or wider, as a map for each of the S memories."""
        similarity = wide(self.keys(self.query(features)))
        over_pixels = similarity.flatten(2).softmax(dim=2).reshape(similarity.shape)
        return over_pixels / (over_pixels.sum(dim=1, keepdim=True) + 1e-9)


class EfficientAttention(AttentionBlock):
    r"""Attention whose two softmaxes run apart, so that it costs N·C² and not N²·C.

    .. math:: E = \mathrm{softmax}_d(Q)\, \big(\mathrm{softmax}_n(K)^\top V\big)

    Q, K and V are 1×1 convs to C/2 channels d. Each row of softmax_d(Q) softmax_n(K)ᵀ sums to one,
    as a row of full attention does.

    Args:
        channels: C, even.
        zero_init: See ``AttentionBlock``.

    Raises:
        InputError: ``channels`` is odd.

    Source: Shen et al., "Efficient Attention: Attention with Linear Complexities", WACV 2021,
    Section 3.2, with the softmax as normalisation and one head. Widths and the batch norm that
    starts at zero are those of :class:`NonLocal`, which it stands in for.
    """

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Gather the values by channel of the keys, then hand every pixel a mixture."""
        over_channels = wide(pixels(query)).softmax(dim=2).to(value.dtype)
        over_pixels = wide(pixels(key)).softmax(dim=1).to(value.dtype)
        return over_channels @ (over_pixels.mT @ pixels(value))


class NystromAttention(AttentionBlock):
    r"""Full attention approximated through a few landmarks, means over the cells of a grid.

    .. math:: \hat S V = \mathrm{s}(Q \tilde K^\top)\; \mathrm{s}(\tilde Q \tilde K^\top)^{+}\,
        \big(\mathrm{s}(\tilde Q K^\top)\, V\big), \quad
        \mathrm{s}(\cdot) = \mathrm{softmax}(\cdot / \sqrt{d})

    Q, K and V are 1×1 convs to d = C/2 channels, Q̃ and K̃ the landmarks. Where every pixel is a
    landmark this is full attention. The pseudo-inverse is iterated, see ``pseudo_inverse``.

    Args:
        channels: C, even.
        grid: Cells along each side; the landmarks are grid².
        num_iterations: Of the pseudo-inverse.
        zero_init: See ``AttentionBlock``.

    Raises:
        InputError: ``channels`` is odd, or ``grid`` less than 1.

    Source: Xiong et al., "Nyströmformer: A Nyström-Based Algorithm for Approximating
    Self-Attention", AAAI 2021, Section 3.2, Eqs 11, 13 and 14, with 64 landmarks and 6 iterations.
    Differs: segments are cells of the map, not stretches of a sequence, so that landmarks are
    pooled maps; one head; no depth-wise conv beside it. The block is :class:`NonLocal`'s.
    """

    @options.checked
    def __init__(
        self,
        channels: PositiveInt,
        grid: PositiveInt = 8,
        num_iterations: NonNegativeInt = 6,
        *,
        zero_init: bool = True,
    ) -> None:
        super().__init__(channels, zero_init=zero_init)
        self.grid, self.num_iterations = grid, num_iterations

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention of pixels to landmarks, among landmarks, and of landmarks to pixels."""
        cells = min(self.grid, query.shape[2]), min(self.grid, query.shape[3])
        with _without_autocast(query):
            query, key = wide(query) / query.shape[1] ** 0.5, wide(key)
            near_query, near_key = (pixels(F.adaptive_avg_pool2d(x, cells)) for x in (query, key))
            query, key = pixels(query), pixels(key)
            among = pseudo_inverse((near_query @ near_key.mT).softmax(dim=2), self.num_iterations)
            gathered = (near_query @ key.mT).softmax(dim=2) @ pixels(value).to(key.dtype)
            attended = (query @ near_key.mT).softmax(dim=2) @ (among @ gathered)
        return attended.to(value.dtype)


def pseudo_inverse(a: Float[Tensor, "b m m"], num_iterations: int = 6) -> Float[Tensor, "b m m"]:
    r"""Moore-Penrose inverse by Z ← ¼ Z (13 I - AZ (15 I - AZ (7 I - AZ))).

    It starts from Aᵀ / (‖A‖₁ ‖A‖_∞), which makes it converge.

    Source: Xiong et al., AAAI 2021, Eq. 11, after Razavi et al. 2014.
    """
    norms = [a.abs().sum(dim=dim).amax(dim=1)[:, None, None] for dim in (1, 2)]
    z = a.mT / (norms[0] * norms[1])
    one = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    for _ in range(num_iterations):
        az = a @ z
        z = z @ (13 * one - az @ (15 * one - az @ (7 * one - az))) / 4
    return z


class SlotAttention(nn.Module):
    r"""Learnt queries, the slots, compete for pixels and are refined by a recurrent network.

    T times, from the learnt ``queries``:

    .. math:: z_{nk} = \mathrm{softmax}_k\big(k(x_n)^\top q(s_k) / \sqrt d\big), \quad
        u_k = \frac{\sum_n z_{nk}\, v(x_n)}{\sum_n z_{nk}}, \quad
        s_k \leftarrow s'_k + \mathrm{MLP}(s'_k), \quad s'_k = \mathrm{GRU}(u_k; s_k)

    This is EMA with a learnt M step: z are responsibilities, u the bases that EMA would have. As
    there, every pixel is then rebuilt, y = x + BN(W_o Σ_k z_k s_k).

    Args:
        channels: C, even; slots have d = C/2.
        num_slots: K.
        num_iterations: T.

    Raises:
        InputError: ``channels`` is odd, or ``num_iterations`` less than 1.

    Source: Locatello et al., "Object-Centric Learning with Slot Attention", NeurIPS 2020, Section
    2.1, Algorithm 1, with its layer norms, MLP of width 2d and T = 3. Differs: slots start from
    learnt vectors, not from draws of one learnt Gaussian; K is 64 by default, as EMA's, not 7 to
    11; and pixels are rebuilt in place of a decoder per slot, by a batch norm that starts at zero.
    """

    @options.checked
    def __init__(
        self, channels: PositiveInt, num_slots: PositiveInt = 64, num_iterations: PositiveInt = 3
    ) -> None:
        super().__init__()
        if channels % 2:
            raise InputError(f"channels is {channels}; slots have half of it: use an even C")
        self.num_iterations = num_iterations
        d = channels // 2
        self.queries = nn.Parameter(torch.randn(num_slots, d))
        self.norm_pixels, self.norm_slots, self.norm_mlp = map(nn.LayerNorm, (channels, d, d))
        self.query = nn.Linear(d, d, bias=False)
        self.key = nn.Linear(channels, d, bias=False)
        self.value = nn.Linear(channels, d, bias=False)
        self.recurrent = nn.GRUCell(d, d)
        self.mlp = nn.Sequential(nn.Linear(d, 2 * d), nn.ReLU(), nn.Linear(2 * d, d))
        self.out = nn.Conv2d(d, channels, 1, bias=False)
        self.norm = batch_norm(channels, zero_init=True)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Refine the slots, rebuild the pixels from them and add to the input."""
        x = self.norm_pixels(pixels(features))
        key, value = self.key(x), self.value(x)
        slots = self.queries.repeat(len(x), 1, 1)
        for _ in range(self.num_iterations):
            query = self.query(self.norm_slots(slots)) / key.shape[2] ** 0.5
            z = wide(key @ query.mT).softmax(dim=2)
            updates = (z / (z.sum(dim=1, keepdim=True) + 1e-8)).to(value.dtype).mT @ value
            flat = self.recurrent(updates.flatten(0, 1), slots.flatten(0, 1).to(value.dtype))
            slots = flat.reshape(slots.shape)
            slots = slots + self.mlp(self.norm_mlp(slots))
        y = z.to(slots.dtype) @ slots
        change: Tensor = self.norm(self.out(as_map(y, features)))
        return features + change


class CrissCrossAttention(nn.Module):
    r"""Every pixel attends to its own row and column; done twice, it has heard from all.

    .. math:: y_u = x_u + \gamma
        \sum_{i \in \Phi_u} \mathrm{softmax}_i\big(q(x_u)^\top k(x_i)\big)\, v(x_i)

    Φ_u are the H + W - 1 pixels of u's row and column, u itself once. q and k are 1×1 convs to C/8
    channels, v one to C; each recurrence uses the same. γ is learnt and starts at zero.

    Args:
        channels: C, a multiple of 8.
        num_recurrences: 2 in the paper.

    Raises:
        InputError: ``channels`` is no multiple of 8, or ``num_recurrences`` less than 1.

    Source: Huang et al., "CCNet: Criss-Cross Attention for Semantic Segmentation", ICCV 2019,
    Sections 3.2 and 3.3, Eqs 1 and 2; γ from the authors' code. Differs: the convs before and
    after it are the head's.
    """

    @options.checked
    def __init__(self, channels: PositiveInt, num_recurrences: PositiveInt = 2) -> None:
        super().__init__()
        if channels % 8:
            raise InputError(f"channels is {channels}; q and k have an eighth: use a multiple of 8")
        self.num_recurrences = num_recurrences
        self.query = nn.Conv2d(channels, channels // 8, 1)
        self.key = nn.Conv2d(channels, channels // 8, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Attend along rows and columns, as often as there are recurrences."""
        for _ in range(self.num_recurrences):
            features = features + self.gamma * self._attend(features)
        return features

    def _attend(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        query, key, value = self.query(x), self.key(x), self.value(x)
        height = x.shape[-2]
        column = torch.einsum("bchw,bciw->bhwi", query, key)
        row = torch.einsum("bchw,bchj->bhwj", query, key)
        itself = torch.eye(height, dtype=torch.bool, device=x.device)[:, None, :]
        column = column.masked_fill(itself, -torch.inf)  # it is in its row already
        weights = wide(torch.cat([column, row], dim=3)).softmax(dim=3).to(value.dtype)
        above_and_below = torch.einsum("bhwi,bciw->bchw", weights[..., :height], value)
        return above_and_below + torch.einsum("bhwj,bchj->bchw", weights[..., height:], value)


class ObjectContext(nn.Module):
    r"""Every pixel gets a mixture of the classes' mean features, by its similarity to them.

    .. math:: f_k = \sum_i \mathrm{softmax}_i(m_{ik})\, x_i, \quad
        y_i = \rho\Big(\sum_k \mathrm{softmax}_k\big(\phi(x_i)^\top \psi(f_k) / \sqrt d\big)\,
        \delta(f_k)\Big), \quad z_i = g([y_i; x_i])

    m are coarse logits of the classes k. φ and ψ are two 1×1 conv-BN-ReLUs each, to d = C/2
    channels, δ is one to C/2, ρ and g are one to C.

    Args:
        channels: C.

    Source: Yuan et al., "Object-Contextual Representations for Semantic Segmentation", ECCV 2020,
    Section 3.2, Eqs 1 to 5; widths, depths and the scale √d from the authors' code.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 2
        self.pixel = _twice(channels, inner)
        self.region = _twice(channels, inner)
        self.value = conv_bn_relu(channels, inner, 1)
        self.up = conv_bn_relu(inner, channels, 1)
        self.fuse = conv_bn_relu(2 * channels, channels, 1)

    def forward(
        self, features: Float[Tensor, "b c h w"], coarse: Float[Tensor, "b k h w"]
    ) -> Float[Tensor, "b c h w"]:
        """Mean features of the classes by the coarse logits, handed back to the pixels."""
        shares = wide(coarse.flatten(2)).softmax(dim=2).to(features.dtype)  # (B, K, N)
        regions = (shares @ pixels(features)).mT.unsqueeze(3)  # (B, C, K, 1)
        query, key, value = self.pixel(features), self.region(regions), self.value(regions)
        similarity = pixels(query) @ key.flatten(2) / query.shape[1] ** 0.5  # (B, N, K)
        weights = wide(similarity).softmax(dim=2).to(value.dtype)
        y = as_map(weights @ pixels(value), features)
        fused: Tensor = self.fuse(torch.cat([self.up(y), features], dim=1))
        return fused


class OCRHead(nn.Module):
    """3×3 conv → coarse logits → ``ObjectContext`` → classifier, on the last feature map.

    Args:
        in_channels: Channels of the backbone's feature maps; the last is used.
        num_classes: Number of logits.
        channels: Channels that the context module sees.
        dropout: Probability with which a whole channel is dropped before the classifier.

    Source: Yuan et al., ECCV 2020. Differs: there the coarse logits come from an earlier stage and
    learn from an auxiliary loss; here from the same map, and they are added to the final logits, so
    that they learn to tell the classes from the one loss that all heads have.
    """

    @options.checked
    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: PositiveInt,
        *,
        channels: PositiveInt = 512,
        dropout: Probability = 0.1,
    ) -> None:
        super().__init__()
        self.reduce = conv_bn_relu(in_channels[-1], channels)
        self.coarse = nn.Conv2d(channels, num_classes, 1)
        self.context = ObjectContext(channels)
        self.classifier = classifier(channels, num_classes, dropout)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Logits (B, num_classes, h, w)."""
        x = self.reduce(features[-1])
        coarse = self.coarse(x)
        logits: Tensor = self.classifier(self.context(x, coarse)) + coarse
        return logits


def _twice(in_channels: int, channels: int) -> nn.Sequential:
    first = conv_bn_relu(in_channels, channels, 1)
    return nn.Sequential(first, conv_bn_relu(channels, channels, 1))


def _without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Within the context, matrix products of a device are computed in the type that they have."""
    if torch.amp.is_autocast_available(x.device.type):
        return torch.autocast(x.device.type, enabled=False)
    return nullcontext()
