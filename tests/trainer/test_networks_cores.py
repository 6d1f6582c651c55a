"""The memories against slow and obvious references, and the published sizes."""

import math

import pytest
import torch
from torch import Tensor, nn

from ada_api.stages import AgentModel
from ada_trainer.networks.attention import attend
from ada_trainer.networks.captured_step import capture
from ada_trainer.networks.gru import Gru, gru_sequence
from ada_trainer.networks.gru_attention import GruAttention
from ada_trainer.networks.presets import PRESETS, Sizes, sizes_of
from ada_trainer.networks.skip_memory import SkipMemory
from ada_trainer.networks.transformer_xl import Block, TransformerXl

PUBLISHED = {"6m": 6, "23m": 23, "42m": 42, "57m": 57, "75m": 75, "169m": 169, "265m": 265}


def test_the_sequence_function_has_torchs_own_values_and_gradients_with_clears() -> None:
    torch.manual_seed(0)
    T, B, D = 12, 4, 6
    reference = nn.GRUCell(D, D).double()
    x = torch.randn(T, B, D, dtype=torch.float64, requires_grad=True)
    start = torch.randn(B, D, dtype=torch.float64, requires_grad=True)
    keep = (torch.rand(T, B) > 0.2).double()
    weights = torch.randn(T, B, D, dtype=torch.float64)
    h, outputs = start, []
    for t in range(T):
        h = reference(x[t], h * keep[t][:, None])
        outputs.append(h)
    inputs = [x, start, *reference.parameters()]
    expected = torch.stack(outputs)
    expected_gradients = torch.autograd.grad((expected * weights).sum(), inputs)
    ours = gru_sequence(
        x @ reference.weight_ih.t() + reference.bias_ih, start, keep, reference.weight_hh, reference.bias_hh
    )
    torch.testing.assert_close(ours, expected)
    for mine, theirs in zip(torch.autograd.grad((ours * weights).sum(), inputs), expected_gradients, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_keep_gates_are_born_with_time_constants_of_up_to_a_hundred_timesteps() -> None:
    torch.manual_seed(0)
    core = Gru(512)
    bias = core.from_memory.bias[512:1024]
    assert 0 <= bias.min() < 0.3 and math.log(90) < bias.max() <= math.log(101)


def reference_attention(block: Block, x: Tensor, sinusoids: Tensor, episode: Tensor, memory: int) -> Tensor:
    """One block over one world, [T, D], timestep by timestep and pair by pair, as Dai et al. write it."""
    T, D = x.shape
    N, H = block.heads, D // block.heads
    q, k, v = block.query_key_value(block.attention_norm(x)).view(T, 3, N, H).unbind(1)
    attended = torch.zeros(T, N, H)
    for n in range(N):
        for t in range(T):
            seen = [j for j in range(max(0, t - memory), t + 1) if episode[j] == episode[t]]
            scores = []
            for j in seen:
                age_key = block.from_age(sinusoids[t - j]).view(N, H)[n]
                content = (q[t, n] + block.content_bias[n, 0]) @ k[j, n]
                scores.append((content + (q[t, n] + block.age_bias[n, 0]) @ age_key) / math.sqrt(H))
            attended[t, n] = torch.softmax(torch.stack(scores), 0) @ v[seen, n]
    x = x + block.attention_out(attended.flatten(1))
    gate, up = block.gate_and_up(block.feed_forward_norm(x)).chunk(2, -1)
    return x + block.down(nn.functional.gelu(gate) * up)


def test_the_transformer_attends_as_written_down_pair_by_pair() -> None:
    torch.manual_seed(0)
    core = TransformerXl(Sizes(width=8, layers=1, heads=2, memory=4, embedding=8))
    block = core.blocks[0]
    assert isinstance(block, Block)
    nn.init.normal_(block.content_bias)
    nn.init.normal_(block.age_bias)
    x = torch.randn(11, 3, 8)
    clear = torch.rand(11, 3) < 0.2
    ours = core.unroll(x, core.initial_state(3), clear)
    for b in range(3):
        expected = reference_attention(block, x[:, b], core.sinusoids, clear[:, b].cumsum(0), 4)
        torch.testing.assert_close(ours[:, b], core.norm(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("fused", [False, True])
def test_the_attention_has_the_gradients_of_one_written_column_by_column(fused: bool) -> None:
    torch.manual_seed(0)
    B, N, T, M, H = 2, 3, 5, 4, 6
    shapes = [(B, N, T, H)] * 3 + [(N, H, M + 1), (N, 1, H), (N, 1, H)]
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    old_keys, old_values = torch.randn(2, B, N, M, H, dtype=torch.float64)
    offset = torch.arange(M + T) - torch.arange(T)[:, None]
    hidden = (offset < 0) | (offset > M) | (torch.rand(B, 1, T, M + T) < 0.2) & (offset != M)
    mask = torch.zeros(hidden.shape, dtype=torch.float64).masked_fill_(hidden, -1e9)

    def plainly(query, key, value, age_keys, content_offset, age_offset):
        columns = [torch.cat(pair, 2) for pair in ((old_keys, key), (old_values, value))]
        by_age = torch.einsum("bnth,nha->bnta", query + age_offset, age_keys)
        of_columns = by_age.gather(-1, offset.clamp(0, M).expand(B, N, T, M + T))
        scores = (query + content_offset) @ columns[0].transpose(-1, -2) + of_columns + mask
        return scores.softmax(-1) @ columns[1]

    ours, expected = attend(*inputs, old_keys, old_values, mask, fused), plainly(*inputs)
    torch.testing.assert_close(ours, expected)
    weights = torch.randn_like(expected)
    for mine, theirs in zip(
        torch.autograd.grad((ours * weights).sum(), inputs),
        torch.autograd.grad((expected * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("products", [torch.float32, torch.bfloat16])
def test_a_captured_step_goes_on_as_a_plain_one_and_leaves_clones_alone(products: torch.dtype) -> None:
    torch.manual_seed(0)
    core = TransformerXl(Sizes(width=8, layers=2, heads=2, memory=3, embedding=8)).requires_grad_(False)
    core.products = products
    plain, captured = core.initial_state(3), capture(core, core.initial_state(3))
    for t in range(11):
        x, clear = torch.randn(3, 8), torch.rand(3) < 0.2
        if t == 6:  # an update: the parameters change where they lie
            for parameter in core.parameters():
                parameter.mul_(1.1)
            plain, captured = core.renew(plain), core.renew(captured)
        aside = core.clone(captured)
        (expected, plain), (found, captured) = core.step(x, plain, clear), core.step(x, captured, clear)
        again, aside = core.step(x, aside, clear)
        assert torch.equal(found, expected) and aside.captured is None
        torch.testing.assert_close(again, expected, atol=0.02 if products == torch.bfloat16 else 1e-5, rtol=0)
    assert captured.captured is not None and core.select(captured, torch.tensor([0])).captured is None


def test_states_that_begin_after_it_was_asked_for_have_their_step_captured() -> None:
    core = TransformerXl(Sizes(width=8, layers=1, heads=2, memory=3, embedding=8))
    assert core.initial_state(2).captured is None
    core.captures = True
    assert core.initial_state(2).captured is not None


def test_nothing_older_than_the_memory_and_nothing_later_reaches_a_timestep() -> None:
    torch.manual_seed(0)
    core = TransformerXl(Sizes(width=8, layers=1, heads=2, memory=3, embedding=8))
    x = torch.randn(9, 1, 8, requires_grad=True)
    out = core.unroll(x, core.initial_state(1), torch.zeros(9, 1, dtype=torch.bool))
    out[6].square().sum().backward()
    assert x.grad is not None
    reached = x.grad.abs().sum((1, 2)) > 0
    assert reached.tolist() == [False, False, False, True, True, True, True, False, False]


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_have_the_published_number_of_parameters(name: str) -> None:
    sizes = PRESETS[name]
    with torch.device("meta"):
        core = TransformerXl(sizes)
    matrices = sum(
        weight.numel()
        for part, weight in core.blocks.named_parameters()
        if part.endswith(".weight") and weight.ndim == 2 and "from_age" not in part
    )
    assert matrices == pytest.approx(12 * sizes.layers * sizes.width**2, rel=5e-4)
    assert matrices / 1e6 == pytest.approx(PUBLISHED[name], abs=1)
    assert sizes.width % sizes.heads == 0 and sizes.layers == 6 and sizes.memory == 300


def test_what_the_model_sets_wins_over_the_preset() -> None:
    sizes = sizes_of(AgentModel(preset="micro", memory=60))
    assert (sizes.width, sizes.memory) == (PRESETS["micro"].width, 60)


def reference_skip(core: SkipMemory, x: Tensor, encoded: Tensor, episode: Tensor) -> Tensor:
    """The skip memory of one layer over one world, timestep by timestep and pair by pair."""
    (block,) = core.blocks
    assert isinstance(block, Block)
    T, D = x.shape
    N, H = block.heads, D // block.heads
    q, k, v = block.query_key_value(block.attention_norm(encoded)).view(T, 3, N, H).unbind(1)
    attended = torch.zeros(T, N, H)
    for n in range(N):
        for t in range(T):
            mine = [j for j in range(t + 1) if episode[j] == episode[t]]
            seen = [*[j for j in mine[:-1] if (j - mine[0]) % core.stride == 0][-core.sizes.memory :], t]
            scores = []
            for j in seen:
                age_key = block.from_age(core.sinusoids[t - j]).view(N, H)[n]
                content = (q[t, n] + block.content_bias[n, 0]) @ k[j, n]
                scores.append((content + (q[t, n] + block.age_bias[n, 0]) @ age_key) / math.sqrt(H))
            attended[t, n] = torch.softmax(torch.stack(scores), 0) @ v[seen, n]
    x = encoded + block.attention_out(attended.flatten(1))
    gate, up = block.gate_and_up(block.feed_forward_norm(x)).chunk(2, -1)
    return x + block.down(nn.functional.gelu(gate) * up)


def test_the_skip_memory_attends_to_every_fourth_encoded_timestep_and_to_the_present_one() -> None:
    torch.manual_seed(0)
    core = SkipMemory(Sizes(width=8, layers=1, heads=2, memory=3, embedding=8), stride=4)
    block = core.blocks[0]
    assert isinstance(block, Block)
    nn.init.normal_(block.content_bias)
    nn.init.normal_(block.age_bias)
    x = torch.randn(27, 3, 8)
    clear = torch.rand(27, 3) < 0.1
    ours = core.unroll(x, core.initial_state(3), clear)
    encoded = core.encoder.unroll(x, core.encoder.initial_state(3), clear)
    for b in range(3):
        expected = reference_skip(core, x[:, b], encoded[:, b], clear[:, b].cumsum(0))
        torch.testing.assert_close(ours[:, b], core.norm(expected), atol=1e-5, rtol=1e-5)


def test_a_gru_with_attention_reads_every_eighth_of_its_own_states_within_the_episode() -> None:
    torch.manual_seed(0)
    core = GruAttention(8, heads=2, written=2)
    T, N, H = 40, 2, 4
    x, clear = torch.randn(T, 1, 8), torch.zeros(T, 1, dtype=torch.bool)
    clear[20] = True
    ours = core.unroll(x, core.initial_state(1), clear)
    hidden, written, age = torch.zeros(1, 8), [], 0
    for t in range(T):
        if clear[t, 0]:
            hidden, written, age = torch.zeros(1, 8), [], 0
        read = torch.zeros(1, 8)
        if written:
            query = core.query(hidden).view(N, H)
            keys, values = zip(*[core.key_value(state).view(2, N, H).unbind(0) for state in written[-2:]], strict=True)
            found = []
            for n in range(N):
                scores = torch.stack([query[n] @ key[n] for key in keys]) / math.sqrt(H)
                weights = torch.softmax(scores, 0)
                found.append(sum(w * value[n] for w, value in zip(weights, values, strict=True)))
            read = core.read_out(torch.cat(found))[None]
        hidden, _ = core.cell.step(torch.cat([x[t], read], -1), hidden, torch.zeros(1, dtype=torch.bool))
        age += 1
        if age % 8 == 0:
            written.append(hidden)
        torch.testing.assert_close(ours[t], hidden, atol=1e-6, rtol=0)
