"""Tests how slots are divided among studies."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import inf, nan
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from krona_tune.refusal import Refusal
from krona_tune.search.startup.slots import Cluster, Node
from krona_tune.service.queue import capacity
from krona_tune.service.queue.capacity import CapacitySource, Claim, describe_capacity, divide, first_free


def of(cpus: float, gpus: float = 0) -> Cluster:
    return Cluster(nodes=(Node(cpus, gpus),), dashboard="")


FULL = of(cpus=8)


def claim(
    place: int, priority: int = 1, most: int = 100, person: str = "ann", cpus: float = 1, gpus: float = 0
) -> Claim:
    return Claim(place=place, person=person, priority=priority, most=most, cpus=cpus, gpus=gpus)


@pytest.mark.parametrize(
    ("claims", "cpus", "held"),
    [
        ([], 8, {}),
        ([claim(1)], 8, {1: 8}),
        ([claim(1, most=3)], 8, {1: 3}),
        ([claim(1), claim(2)], 8, {1: 4, 2: 4}),
        ([claim(1), claim(2)], 2, {1: 1, 2: 1}),
        ([claim(1), claim(2, priority=3)], 8, {1: 2, 2: 6}),
        ([claim(1), claim(2, priority=2)], 2, {1: 1, 2: 1}),
        ([claim(1), claim(2, most=1)], 8, {1: 7, 2: 1}),
        # one who is more urgent takes another's last slot, and the younger of two equals waits
        ([claim(1), claim(2, priority=2)], 1, {1: 0, 2: 1}),
        ([claim(1), claim(2), claim(3, priority=2)], 2, {1: 1, 2: 0, 3: 1}),
        ([claim(1), claim(2), claim(3)], 2, {1: 1, 2: 1, 3: 0}),
        # trials of two CPUs hold twice as much
        ([claim(1, cpus=2), claim(2)], 8, {1: 2, 2: 4}),
        ([claim(1, cpus=3)], 8, {1: 2}),
        # large trials are no reason to get none
        ([claim(1, priority=5, most=1, cpus=8), claim(2)], 8, {1: 1, 2: 0}),
        ([claim(1, cpus=5), claim(2)], 8, {1: 1, 2: 3}),
        ([claim(1)], 0, {1: 0}),
        ([claim(1, cpus=0, most=3), claim(2)], 2, {1: 3, 2: 2}),
    ],
)
def test_slots_follow_priorities(claims: list[Claim], cpus: float, held: dict[int, int]) -> None:
    assert divide(claims, of(cpus)) == held
    assert divide(reversed(claims), of(cpus)) == held, "the order of the claims counted"


def test_studies_on_gpus_and_on_cpus_share_a_cluster() -> None:
    there = of(cpus=64, gpus=8)
    assert divide([claim(1, gpus=1), claim(2)], there) == {1: 8, 2: 56}, (
        "each holds seven eighths of the CPUs, or all GPUs"
    )
    assert divide([claim(1, gpus=1), claim(2, gpus=0.25)], there) == {1: 4, 2: 16}
    assert divide([claim(1, gpus=0.1)], of(cpus=64, gpus=1)) == {1: 10}, "ten tenths do not fill a GPU"


def test_a_limit_holds_for_all_studies_of_a_person() -> None:
    claims = [claim(1), claim(2), claim(3, person="bo")]
    assert divide(claims, FULL, {"ann": 3}) == {1: 2, 2: 1, 3: 5}
    assert divide(claims, FULL, {"bo": 1, "eve": 2}) == {1: 4, 2: 3, 3: 1}


@pytest.mark.parametrize("count", [nan, inf, 1e9])
def test_more_than_any_cluster_has_is_refused(count: float) -> None:
    with pytest.raises(Refusal, match=r"^--gpus: .* is refused; write a number from 0 to 100,000"):
        CapacitySource(cpus=4, gpus=count)


def test_who_asks_while_a_cluster_is_asked_gets_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answer = Event(), Event()

    def cluster_at(address: str) -> Cluster:
        asked.set()
        assert answer.wait(60)
        return FULL

    monkeypatch.setattr(capacity, "cluster_at", cluster_at)
    source = CapacitySource("http://127.0.0.1:8265")
    with ThreadPoolExecutor() as threads:
        first = threads.submit(source.cluster)
        assert asked.wait(60)
        second = threads.submit(source.cluster)
        answer.set()
        assert first.result(60) == second.result(60) == FULL


def test_what_there_is_has_words() -> None:
    assert describe_capacity(of(8, 1)) == "8 CPUs, 1 GPU"
    assert describe_capacity(of(0.5)) == "0.5 CPUs"
    assert describe_capacity(of(0)) == "no CPU"


claims_ = st.lists(
    st.builds(
        claim,
        place=st.integers(1, 1000),
        priority=st.integers(1, 10),
        most=st.integers(0, 20),
        person=st.sampled_from(["ann", "bo"]),
        cpus=st.sampled_from([0.5, 1, 2, 5]),
        gpus=st.sampled_from([0, 0, 0.25, 1]),
    ),
    max_size=8,
    unique_by=lambda each: each.place,
)


@given(claims=claims_, cpus=st.integers(0, 32), gpus=st.integers(0, 4), limit=st.integers(0, 10))
def test_nobody_gets_too_much_and_nothing_useful_is_left(claims: list[Claim], cpus: int, gpus: int, limit: int) -> None:
    held = divide(claims, of(cpus=cpus, gpus=gpus), {"ann": limit})
    assert held.keys() == {each.place for each in claims}
    used_cpus = sum(held[each.place] * each.cpus for each in claims)
    used_gpus = sum(held[each.place] * each.gpus for each in claims)
    of_ann = sum(held[each.place] for each in claims if each.person == "ann")
    assert (used_cpus <= cpus + 1e-5, used_gpus <= gpus + 1e-5, of_ann <= limit) == (True, True, True)
    for each in claims:
        assert 0 <= held[each.place] <= each.most
        fits = used_cpus + each.cpus <= cpus and used_gpus + each.gpus <= gpus
        assert not (fits and held[each.place] < each.most and (each.person != "ann" or of_ann < limit))


@given(claims=claims_, cpus=st.integers(1, 32))
def test_a_higher_priority_never_gives_less(claims: list[Claim], cpus: int) -> None:
    alike = [replace(each, cpus=1, gpus=0) for each in claims]
    there = of(cpus)
    before = divide(alike, there)
    for each in alike:
        more = [replace(other, priority=10) if other is each else other for other in alike]
        assert divide(more, there)[each.place] >= before[each.place]


@pytest.mark.parametrize(
    ("wanted", "held", "first"),
    [
        (2, [], 0),
        (2, [(0, 2)], 2),
        (2, [(2, 2)], 0),
        (2, [(3, 2)], 1),
        (0.5, [(0, 0.5), (1, 1)], 2),
        (4, [(0, 4)], 0),
        (3, [(0, 2)], 2),
    ],
)
def test_a_study_begins_with_the_gpu_from_which_it_meets_the_fewest_others(
    wanted: float, held: list[tuple[int, float]], first: int
) -> None:
    assert first_free(4, wanted, held) == first
