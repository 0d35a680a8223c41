"""The conversation: normalised without losing a word, refused, or left alone."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import InvalidRequest
from relay.history import (
    apply,
    from_pairs,
    plan,
    split_system,
    system_in_queries,
    text_of,
    to_pairs,
)

CALL = {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": '{"tz":"UTC"}'}}
CALLS: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": [CALL]}
TOOL: dict[str, Any] = {"role": "tool", "tool_call_id": "c1", "content": "noon"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}


def system(text: Any) -> dict[str, Any]:
    return {"role": "system", "content": text}


def user(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def assistant(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def part(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": text, **more}


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


# Texts without line ends, so that the blank lines of a merge can be told from them.
texts = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=5)
images = st.builds(lambda n: {"type": "image_url", "image_url": {"url": f"u{n}"}}, st.integers())
contents = texts | st.none() | st.lists(st.builds(part, texts) | images, max_size=3)
said = st.one_of(
    st.builds(
        lambda role, content, more: {"role": role, "content": content, **more},
        st.sampled_from(["system", "developer", "user", "assistant"]),
        contents,
        st.fixed_dictionaries(
            {},
            optional={
                "name": st.sampled_from(["ann", "bob"]),
                "refusal": st.none() | st.just("no"),
                "x_unknown": st.integers(0, 1),
            },
        ),
    ),
    st.builds(lambda content: {**CALLS, "content": content}, contents),
    st.builds(lambda content: {**TOOL, "content": content}, contents),
    st.just({"role": "user"}),
)
conversations = st.lists(said, max_size=8).map(lambda before: [*before, user("last")])
plain_conversations = st.lists(
    st.builds(lambda make, text: make(text), st.sampled_from([user, assistant]), texts)
).map(lambda before: [*before, user("last")])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["content", "tool_calls", "function_call", "id", "name", "text", "type"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=4,
)
any_messages = st.lists(
    st.builds(
        lambda role, more: {**more, "role": role},
        st.sampled_from(["system", "user", "assistant", "tool", "function", "alien"]),
        st.dictionaries(
            st.sampled_from(
                ["content", "name", "tool_calls", "tool_call_id", "function_call", "audio"]
            ),
            json_values,
        ),
    ),
    min_size=1,
    max_size=5,
)


def words(messages: list[dict[str, Any]]) -> str:
    """All text in its order; what a merge adds is line ends only."""
    return "".join(text_of(message.get("content")) for message in messages).replace("\n", "")


def normalized(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return apply(messages, "normalize") or messages


class TestWhatIsMerged:
    def test_an_alternating_conversation_goes_as_it_came(self) -> None:
        assert apply([system("s"), user("a"), assistant("b"), user("c")], "normalize") is None

    @pytest.mark.parametrize("role", ["system", "developer", "user", "assistant"])
    def test_neighbours_of_one_role_are_joined_with_a_blank_line(self, role: str) -> None:
        messages = [
            user("q"),
            {"role": role, "content": "one"},
            {"role": role, "content": "two"},
            {"role": role, "content": "three"},
            assistant("a", tool_calls=[CALL]),
            user("last"),
        ]
        result = apply(messages, "normalize")
        assert result is not None
        merged = next(m for m in result if "one" in text_of(m["content"]))
        assert merged["role"] == role
        assert merged["content"].endswith("one\n\ntwo\n\nthree")

    @pytest.mark.parametrize(
        ("first", "second", "merged"),
        [
            ("a", "", "a"),
            ("", "b", "b"),
            (None, "b", "b"),
            ("a", None, "a"),
            ("", None, ""),
            (None, None, None),
            ([], "b", "b"),
            ([part("a"), IMAGE], "b", [part("a"), IMAGE, part("\n\nb")]),
            ("a", [IMAGE, part("b")], [part("a\n\n"), IMAGE, part("b")]),
            ([IMAGE], [part("b", cache=1)], [IMAGE, part("b", cache=1)]),
            ([part("a")], [IMAGE], [part("a"), IMAGE]),
            ([part("a")], [part("b")], [part("a"), part("\n\n"), part("b")]),
        ],
    )
    def test_content_of_any_two_kinds_is_joined(self, first: Any, second: Any, merged: Any) -> None:
        assert apply([user(first), user(second)], "normalize") == [user(merged)]

    def test_strings_between_parts_carry_the_blank_lines_on_both_sides(self) -> None:
        messages = [user("a"), user("b"), user([IMAGE]), user("c"), user("d"), user([part("e")])]
        assert apply(messages, "normalize") == [
            user([part("a\n\nb\n\n"), IMAGE, part("\n\nc\n\nd\n\n"), part("e")])
        ]

    def test_messages_without_content_are_merged_without_inventing_it(self) -> None:
        assert apply([{"role": "user"}, {"role": "user"}], "normalize") == [{"role": "user"}]
        assert apply([{"role": "user"}, user("a")], "normalize") == [user("a")]

    def test_equal_keys_are_kept_and_nulls_count_as_absent(self) -> None:
        messages = [
            user("q"),
            assistant("a", name="ann", tool_calls=None, annotations=[]),
            assistant("b", name="ann", refusal=None),
            user("last"),
        ]
        assert apply(messages, "normalize") == [
            user("q"),
            assistant("a\n\nb", name="ann", tool_calls=None, annotations=[], refusal=None),
            user("last"),
        ]

    def test_ten_thousand_short_messages_become_one(self) -> None:
        messages = [user("a") for _ in range(10_000)]
        assert apply(messages, "normalize") == [user("\n\n".join("a" * 10_000))]


class TestWhatIsNeverMerged:
    @pytest.mark.parametrize(
        "messages",
        [
            [user("q"), CALLS, assistant("x"), user("last")],
            [user("q"), CALLS, CALLS, user("last")],
            [user("q"), CALLS, TOOL, TOOL, user("last")],
            [user("q"), {"role": "function"}, {"role": "function"}, user("last")],
            [user("q"), assistant("", refusal="no"), assistant("", refusal="no"), user("last")],
            [user("q"), assistant("", audio={"id": "1"}), assistant("b"), user("last")],
            [user("a", name="ann"), user("b", name="bob")],
            [user("a", name="ann"), user("b")],
            [user("a"), user({"odd": 1})],
            [user(5), user(5)],
            [{"role": "alien"}, {"role": "alien"}, user("a")],
        ],
    )
    def test_messages_that_are_more_than_text_stay_apart(
        self, messages: list[dict[str, Any]]
    ) -> None:
        assert apply(messages, "normalize") is None

    def test_a_system_message_in_mid_conversation_stays_where_it_is(self) -> None:
        messages = [system("s"), user("a"), system("t"), user("b")]
        assert apply(messages, "normalize") is None

    def test_values_too_deep_to_compare_stay_apart(self) -> None:
        messages = [user("a", x=nested(100_000)), user("b", x=nested(100_000))]
        assert apply(messages, "normalize") is None


class TestAConversationThatTheAssistantBegins:
    def test_it_gets_an_empty_question(self) -> None:
        messages = [assistant("Hello!"), user("Hi.")]
        assert apply(messages, "normalize") == [user(""), *messages]

    def test_the_question_comes_behind_the_system_prompt(self) -> None:
        messages = [system("s"), {"role": "developer", "content": "d"}, assistant("a"), user("q")]
        assert apply(messages, "normalize") == [*messages[:2], user(""), *messages[2:]]

    def test_its_tool_calls_stay_as_they_are(self) -> None:
        assert apply([CALLS, TOOL], "normalize") == [user(""), CALLS, TOOL]


class TestThePlan:
    def test_it_tells_what_stays_from_what_is_new(self) -> None:
        messages = [system("s"), assistant("a"), user("b"), user("c"), CALLS, TOOL]
        assert plan(messages, "normalize") == [0, user(""), 1, user("b\n\nc"), 4, 5]

    def test_there_is_none_when_all_stays(self) -> None:
        assert plan([user("a")], "normalize") is None

    @given(conversations)
    def test_every_message_that_stays_is_named_once_and_in_order(
        self, messages: list[dict[str, Any]]
    ) -> None:
        stays = [step for step in plan(messages, "normalize") or [] if isinstance(step, int)]
        assert stays == sorted(set(stays))


class TestTheLastMessage:
    @pytest.mark.parametrize("policy", ["normalize", "reject"])
    @pytest.mark.parametrize(
        "messages",
        [
            [user("q"), assistant("a")],
            [system("only")],
            [user("q"), {"role": "alien"}],
            [TOOL],
            [TOOL, CALLS, {**TOOL, "tool_call_id": "c2"}],
            [user("q"), {"role": "assistant", "tool_calls": {"id": "c1"}}, TOOL],
            [user("q"), {"role": "assistant", "tool_calls": ["c1", {}]}, TOOL],
            [user("q"), {"role": "user", "tool_calls": [CALL]}, TOOL],
            [user("q"), CALLS, {"role": "tool"}],
            [user("q"), CALLS, {"role": "function", "name": "clock"}],
            [user("q"), {"role": "assistant", "function_call": "f"}, {"role": "function"}],
            [user("q"), {"role": "assistant", "function_call": {}}, {"role": "function"}],
            [],
        ],
    )
    def test_anything_that_asks_nothing_is_refused(
        self, messages: list[dict[str, Any]], policy: Any
    ) -> None:
        with pytest.raises(InvalidRequest, match="last message must come from the user") as caught:
            apply(messages, policy)
        assert (caught.value.status, caught.value.param) == (400, "messages")

    @pytest.mark.parametrize("policy", ["normalize", "reject"])
    def test_a_tool_answer_counts_as_the_users(self, policy: Any) -> None:
        second = {**CALL, "id": "c2"}
        messages = [
            user("q"),
            {**CALLS, "tool_calls": [CALL, second]},
            {**TOOL, "tool_call_id": "c2"},
            TOOL,
        ]
        assert apply(messages, policy) is None

    @pytest.mark.parametrize("policy", ["normalize", "reject"])
    def test_a_function_answer_counts_as_the_users(self, policy: Any) -> None:
        call = {"role": "assistant", "content": None, "function_call": {"name": "f"}}
        assert apply([user("q"), call, {"role": "function", "name": "f"}], policy) is None


class TestPolicies:
    def test_passthrough_looks_at_nothing(self) -> None:
        assert apply([assistant("a"), assistant("b")], "passthrough") is None
        assert apply([], "passthrough") is None

    @pytest.mark.parametrize(
        ("messages", "param"),
        [
            ([user("a"), user("b")], "messages[1]"),
            ([system("s"), user("a"), assistant("b"), assistant("c"), user("d")], "messages[3]"),
            ([assistant("a"), user("b")], "messages[0]"),
            ([system("s"), assistant("a"), assistant("b"), user("c")], "messages[1]"),
            ([system("s"), system("t"), assistant("a"), user("c")], "messages[1]"),
        ],
    )
    def test_reject_names_the_first_message_that_would_change(
        self, messages: list[dict[str, Any]], param: str
    ) -> None:
        with pytest.raises(InvalidRequest) as caught:
            apply(messages, "reject")
        assert (caught.value.status, caught.value.param) == (400, param)
        assert caught.value.message.startswith(f"{param} ")

    @given(conversations)
    def test_reject_refuses_exactly_what_normalize_would_change(
        self, messages: list[dict[str, Any]]
    ) -> None:
        if apply(messages, "normalize") is None:
            assert apply(messages, "reject") is None
        else:
            with pytest.raises(InvalidRequest):
                apply(messages, "reject")


class TestWhateverTheConversation:
    @given(conversations)
    def test_normalising_twice_changes_nothing(self, messages: list[dict[str, Any]]) -> None:
        assert apply(normalized(messages), "normalize") is None

    @given(conversations)
    def test_no_text_is_lost_and_its_order_stays(self, messages: list[dict[str, Any]]) -> None:
        assert words(normalized(messages)) == words(messages)

    @given(conversations)
    def test_the_input_is_not_touched(self, messages: list[dict[str, Any]]) -> None:
        before = copy.deepcopy(messages)
        apply(messages, "normalize")
        split_system(messages)
        system_in_queries(messages)
        to_pairs(messages)
        assert messages == before

    @given(conversations)
    def test_calls_and_their_answers_stay_as_they_are(self, messages: list[dict[str, Any]]) -> None:
        def calls(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return [m for m in listed if "tool_calls" in m or m["role"] == "tool"]

        assert calls(normalized(messages)) == calls(messages)

    @given(conversations)
    def test_parts_stay_as_they_are(self, messages: list[dict[str, Any]]) -> None:
        def given_parts(listed: list[dict[str, Any]]) -> list[Any]:
            lists = [m["content"] for m in listed if isinstance(m.get("content"), list)]
            return [p for content in lists for p in content]

        kept = iter(given_parts(normalized(messages)))
        assert all(p in kept for p in given_parts(messages))

    @given(plain_conversations, st.lists(st.sampled_from(["system", "developer"]), max_size=3))
    def test_turns_of_text_alternate_beginning_with_the_user(
        self, turns: list[dict[str, Any]], prompts: list[str]
    ) -> None:
        messages = [*({"role": role, "content": "s"} for role in prompts), *turns]
        _, rest = split_system(normalized(messages))
        roles = [message["role"] for message in rest]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]

    @given(any_messages, st.sampled_from(["normalize", "reject", "passthrough"]))
    def test_odd_json_is_an_invalid_request_at_worst(
        self, messages: list[dict[str, Any]], policy: Any
    ) -> None:
        try:
            result = apply(messages, policy)
        except InvalidRequest:
            return
        if result is not None:
            assert apply(result, policy) is None

    @given(any_messages)
    def test_odd_json_has_a_form_for_every_model(self, messages: list[dict[str, Any]]) -> None:
        assert all(m["role"] != "system" for m in system_in_queries(messages))
        query, history = to_pairs(messages)
        assert isinstance(query, str)
        assert all(isinstance(q, str) and isinstance(a, str) for q, a in history)


class TestTheSystemPrompt:
    def test_leading_system_messages_are_taken_out_as_one_text(self) -> None:
        messages = [
            system("one"),
            {"role": "developer", "content": [part("two")]},
            user("q"),
            system("stays"),
            user("r"),
        ]
        assert split_system(messages) == ("one\n\ntwo", messages[2:])

    def test_without_one_there_is_none(self) -> None:
        assert split_system([user("q")]) == (None, [user("q")])
        assert split_system([]) == (None, [])

    def test_an_empty_one_is_an_empty_text(self) -> None:
        assert split_system([system(None), user("q")]) == ("", [user("q")])

    def test_it_goes_in_front_of_every_query(self) -> None:
        messages = [system("S"), user("a"), assistant("b"), user([IMAGE]), CALLS, TOOL]
        assert system_in_queries(messages) == [
            user("S\n\na"),
            assistant("b"),
            user([part("S\n\n"), IMAGE]),
            CALLS,
            TOOL,
        ]

    def test_a_conversation_without_system_messages_stays_the_same(self) -> None:
        messages = [{"role": "user"}, assistant("b"), user("c")]
        assert system_in_queries(messages) == messages

    def test_a_later_system_message_goes_in_front_of_the_next_query_only(self) -> None:
        messages = [system("S"), user("a"), assistant("b"), system("T"), user("c"), user("d")]
        assert system_in_queries(messages) == [
            user("S\n\na"),
            assistant("b"),
            user("S\n\nT\n\nc"),
            user("S\n\nd"),
        ]

    def test_text_that_no_user_message_can_take_becomes_one(self) -> None:
        messages = [system("S"), CALLS, system("T"), TOOL]
        assert system_in_queries(messages) == [user("S"), CALLS, TOOL, user("T")]

    @given(conversations)
    def test_none_is_left_and_every_query_begins_with_it(
        self, messages: list[dict[str, Any]]
    ) -> None:
        prompt, _ = split_system(messages)
        result = system_in_queries(messages)
        assert all(message["role"] not in ("system", "developer") for message in result)
        for message in result:
            if prompt and message["role"] == "user":
                assert text_of(message["content"]).startswith(prompt)


class TestPairs:
    def test_the_last_question_is_the_query_and_the_rest_is_pairs(self) -> None:
        messages = [user("a"), assistant("b"), user([part("c"), IMAGE]), assistant(None), user("e")]
        assert to_pairs(messages) == ("e", [("a", "b"), ("c[image_url]", "")])

    def test_the_system_prompt_is_in_front_of_every_query(self) -> None:
        messages = [system("S"), user("a"), assistant("b"), user("c")]
        assert to_pairs(messages) == ("S\n\nc", [("S\n\na", "b")])

    @pytest.mark.parametrize("first", [[], [user("")]])
    def test_an_answer_that_nobody_asked_for_gets_an_empty_question(
        self, first: list[dict[str, Any]]
    ) -> None:
        messages = [system("S"), *first, assistant("Hello!"), user("q")]
        assert to_pairs(messages) == ("S\n\nq", [("", "Hello!")])

    def test_unanswered_questions_and_neighbouring_answers_are_merged(self) -> None:
        messages = [user("a"), user("b"), assistant("c"), assistant("d"), user("e"), user("f")]
        assert to_pairs(messages) == ("e\n\nf", [("a\n\nb", "c\n\nd")])

    def test_a_later_system_message_is_in_front_of_the_next_query(self) -> None:
        messages = [system("S"), user("a"), assistant("b"), system("T"), user("c")]
        assert to_pairs(messages) == ("S\n\nT\n\nc", [("S\n\na", "b")])

    def test_tool_calls_are_answers_and_tool_answers_are_asked(self) -> None:
        calls = {**CALLS, "content": "Let me look."}
        messages = [user("What time is it?"), calls, TOOL, assistant("Noon."), user("Thanks.")]
        query, history = to_pairs(messages)
        call = json.dumps(CALL)
        assert query == "Thanks."
        assert history == [("What time is it?", f"Let me look.\n\n{call}"), ("noon", "Noon.")]

    def test_a_tool_answer_at_the_end_is_the_query(self) -> None:
        assert to_pairs([user("q"), CALLS, TOOL]) == ("noon", [("q", json.dumps(CALL))])

    def test_refusals_audio_and_legacy_calls_are_rendered(self) -> None:
        answer = {
            "role": "assistant",
            "refusal": "I will not.",
            "audio": {"id": "a1"},
            "function_call": {"name": "f", "arguments": "{}"},
        }
        assert to_pairs([user("q"), answer, user("r")]) == (
            "r",
            [("q", 'I will not.\n\n[audio]\n\n{"name": "f", "arguments": "{}"}')],
        )

    def test_a_conversation_that_ends_with_an_answer_asks_nothing(self) -> None:
        assert to_pairs([user("a"), assistant("b")]) == ("", [("a", "b")])

    def test_pairs_become_alternating_messages(self) -> None:
        assert from_pairs("c", [("a", "b")]) == [user("a"), assistant("b"), user("c")]

    @given(st.text(), st.lists(st.tuples(st.text(), st.text())))
    def test_pairs_survive_the_round_trip(self, query: str, pairs: list[tuple[str, str]]) -> None:
        messages = from_pairs(query, pairs)
        assert to_pairs(messages) == (query, pairs)
        assert apply(messages, "reject") is None

    @given(conversations)
    def test_no_text_is_lost_in_pairs(self, messages: list[dict[str, Any]]) -> None:
        prompt, rest = split_system(messages)
        query, history = to_pairs(messages)
        everything = "\n".join([*(text for pair in history for text in pair), query])
        at = 0
        for message in rest:
            text = text_of(message.get("content"))
            at = everything.index(text, at) + len(text)
        if prompt:
            asked = [question for question, _ in history if question]
            assert all(question.startswith(prompt) for question in [*asked, query])

    @given(conversations)
    def test_normalising_first_gives_the_same_query(self, messages: list[dict[str, Any]]) -> None:
        query, history = to_pairs(messages)
        normal_query, normal_history = to_pairs(normalized(messages))
        assert normal_query.replace("\n", "") == query.replace("\n", "")
        assert len(normal_history) == len(history)


class TestText:
    @pytest.mark.parametrize(
        ("content", "text"),
        [
            (None, ""),
            ("a", "a"),
            ([], ""),
            ([part("a"), part("b")], "ab"),
            (["a", IMAGE, {"type": "refusal", "refusal": "no"}], "a[image_url]no"),
            ([{"type": "text", "text": None}, 5, {"x": "ü"}], '[text]5{"x": "ü"}'),
            (5, "5"),
            ({"ü": 1}, '{"ü": 1}'),
        ],
    )
    def test_every_content_has_a_text(self, content: Any, text: str) -> None:
        assert text_of(content) == text
