from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from tokenomics_plugin.context_blocks import ContextBlock
from tokenomics_plugin.trajectory import ModelCall, Trajectory
from tokenomics_plugin.waste.carriage import Carriage, Carry
from trajectories import Script, fingerprint

Contexts = Sequence[Sequence[str | None]]

# Contexts that go on from, cut short, slide along and replace parts of each other.
_NAMES = st.sampled_from("abcd")
_CONTEXTS: st.SearchStrategy[Contexts] = st.lists(
    st.lists(st.one_of(_NAMES, _NAMES, _NAMES, st.none()), max_size=6), max_size=8
)
_GROWING: st.SearchStrategy[Contexts] = st.lists(st.lists(_NAMES, max_size=2), max_size=8).map(
    lambda turns: [[name for turn in turns[: end + 1] for name in turn] for end in range(len(turns))]
)
_ANY = st.one_of(_CONTEXTS, _GROWING)

_BLOCKS = {
    name: ContextBlock(hash=fingerprint(name), role="tool", size=1, producer=fingerprint(name)[-16:]) for name in "abcd"
}


def trajectory_of(contexts: Contexts, *, share: bool = True) -> Trajectory:
    def block(name: str | None) -> ContextBlock | None:
        if name is None or share:
            return None if name is None else _BLOCKS[name]
        known = _BLOCKS[name]
        return ContextBlock(hash=known.hash, role=known.role, size=known.size, producer=known.producer)

    return Trajectory(
        trace_id="1" * 32,
        steps=tuple(
            ModelCall(span_id=f"{number:016x}", started_unix_nano=number, context=tuple(map(block, names)))
            for number, names in enumerate(contexts)
        ),
    )


def prefix(one: Sequence[str | None], other: Sequence[str | None]) -> int:
    length = 0
    for mine, its in zip(one, other, strict=False):
        if mine is None or mine != its:
            break
        length += 1
    return length


@given(contexts=_ANY)
def test_uses_of_a_block_are_all_places_where_it_was_carried(contexts: Contexts) -> None:
    carriage = Carriage(trajectory_of(contexts))

    for name, block in _BLOCKS.items():
        uses = [
            (call.span_id, carry.position)
            for carry in carriage.of_producer.get(block.producer or "", ())
            for call in carry.uses()
        ]
        assert sorted(uses) == [
            (f"{number:016x}", position)
            for number, names in enumerate(contexts)
            for position, other in enumerate(names)
            if other == name
        ]


@given(contexts=_ANY)
def test_a_carry_is_in_a_context_if_it_was_used_there(contexts: Contexts) -> None:
    carriage = Carriage(trajectory_of(contexts))

    for carries in carriage.of_producer.values():
        for carry in carries:
            used_by = {call.span_id for call in carry.uses()}
            assert {span for span, context in carriage.contexts.items() if carry.is_in(context)} == used_by


@given(contexts=_ANY)
def test_the_known_prefix_is_the_longest_that_an_earlier_call_began_with(contexts: Contexts) -> None:
    carriage = Carriage(trajectory_of(contexts))

    for number, (names, context) in enumerate(zip(contexts, carriage.contexts.values(), strict=True)):
        assert context.known_prefix == max((prefix(names, earlier) for earlier in contexts[:number]), default=0)


@given(contexts=_ANY)
def test_equal_contexts_have_one_node_and_others_have_another(contexts: Contexts) -> None:
    nodes = [context.node for context in Carriage(trajectory_of(contexts)).contexts.values()]

    for names, node in zip(contexts, nodes, strict=True):
        if None in names:
            assert node is None
        elif names:
            assert [other == node for other in nodes] == [list(other) == list(names) for other in contexts]


@given(contexts=_ANY)
def test_the_node_of_the_known_prefix_is_that_of_the_call_that_sent_just_it(contexts: Contexts) -> None:
    carriage = Carriage(trajectory_of(contexts))

    by_names = {tuple(names): context for names, context in zip(contexts, carriage.contexts.values(), strict=True)}
    for names, context in zip(contexts, carriage.contexts.values(), strict=True):
        whole = by_names.get(tuple(names[: context.known_prefix]))
        if whole is not None and context.known_prefix:
            assert context.prefix_node == whole.node


@given(contexts=_ANY)
def test_it_makes_no_difference_whether_equal_blocks_are_one_object(contexts: Contexts) -> None:
    shared, copied = Carriage(trajectory_of(contexts)), Carriage(trajectory_of(contexts, share=False))

    def facts(carriage: Carriage) -> list[tuple[int, int | None]]:
        return [(context.known_prefix, context.node) for context in carriage.contexts.values()]

    def uses(carriage: Carriage) -> dict[str, list[tuple[str, int]]]:
        return {
            producer: sorted((call.span_id, carry.position) for carry in carries for call in carry.uses())
            for producer, carries in carriage.of_producer.items()
        }

    assert facts(shared) == facts(copied)
    assert uses(shared) == uses(copied)


def test_who_asked_for_a_tool_is_told_by_the_blocks_after_its_request() -> None:
    script = Script()
    asker = script.model("Two tools, please.")
    tools = [script.tool("get", f"order {n}", f"found {n}") for n in range(2)]
    script.model("Found.")

    assert Carriage(script.trajectory()).asked_by == {tool.span_id: asker.span_id for tool in tools}


def test_blocks_that_do_not_name_their_producer_are_known_by_their_hash_in_their_order() -> None:
    script = Script()
    first, second = (script.turn("get", f"order {n}", "found")[1] for n in range(2))
    later = script.model("Found.")
    anonymous = tuple(
        ContextBlock(hash=block.hash, role=block.role, size=block.size)
        for block in later.context or ()
        if block is not None
    )
    script.revise(later, context=anonymous)

    carriage = Carriage(script.trajectory())

    places = {
        tool.span_id: [carry.position for carry in carriage.of_producer[tool.span_id] if later.span_id in _users(carry)]
        for tool in (first, second)
    }
    assert places == {first.span_id: [3], second.span_id: [5]}


def _users(carry: Carry) -> set[str]:
    return {call.span_id for call in carry.uses()}
