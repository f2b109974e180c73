from __future__ import annotations

import torch
from transformers import DynamicCache

from tokenomics_local_llm import LocalModel
from tokenomics_local_llm.evaluation.needle import find_needle, haystacks


def test_haystack_tells_a_fact_at_its_depth_and_ends_with_the_answer(tiny: LocalModel) -> None:
    hay = torch.tensor(tiny.encode("hay " * 200))

    first, last = haystacks(tiny, hay, depths=(0.0, 1.0))

    told, told_late = (tiny.decode(each.tokens.tolist()) for each in (first, last))
    assert told.index("The secret number of Lisbon is 48213.") < 10
    assert told_late.index("The secret number of Oslo is 90567.") > len("hay " * 190)
    assert told.endswith("The secret number of Lisbon is 48213")
    assert tiny.decode(first.tokens[-first.answer_tokens :].tolist()) == " 48213"


def test_score_is_the_probability_of_the_answer(tiny: LocalModel) -> None:
    (haystack,) = haystacks(tiny, torch.tensor(tiny.encode("hay " * 100)), depths=(0.5,))

    score = find_needle(tiny, haystack, DynamicCache(config=tiny.model.config))

    logits = tiny.model(input_ids=haystack.tokens[None]).logits[0].float()
    count = haystack.answer_tokens
    expected = torch.log_softmax(logits[-count - 1 : -1], -1).gather(1, haystack.tokens[-count:, None]).mean()
    torch.testing.assert_close(torch.tensor(score.log_probability), expected, atol=1e-4, rtol=1e-4)
    assert score.found == 0.0
