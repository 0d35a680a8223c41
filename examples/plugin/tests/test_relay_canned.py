from pathlib import Path

from relay_canned import Canned, CannedOptions

from relay.local import Prompt


def ask(model: Canned, question: str) -> str:
    messages = [{"role": "user", "content": question}]
    return "".join(model.generate(Prompt(messages, question, [])))


def test_the_first_line_whose_words_are_in_the_question_answers(tmp_path: Path) -> None:
    answers = tmp_path / "answers.txt"
    answers.write_text("opening hours => Nine to five.\nhours => Which ones?\nno line\n")
    model = Canned(CannedOptions(answers=answers))
    assert ask(model, "What are your opening hours?") == "Nine to five."
    assert ask(model, "Your hours?") == "Which ones?"
    assert ask(model, "Your name?") == "I have no answer to that."


def test_who_has_left_gets_no_more_words() -> None:
    model = Canned(CannedOptions())
    prompt = Prompt([], "", [])
    words = model.generate(prompt)
    assert next(words) == "I"
    prompt.left.set()
    assert list(words) == []


def test_tokens_are_words() -> None:
    assert Canned(CannedOptions()).count_tokens("one two") == 2
