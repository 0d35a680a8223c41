"""What a model writes is shown as Markdown, and can do nothing else, in a real Chromium."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from running import RunningRelay, relays
from visiting import Visit, visiting

SHOW = """async ([texts, html]) => {
  const { Markdown } = await import("/static/chat/markdown.js");
  const element = document.createElement("div");
  element.className = "body";
  document.getElementById("messages").append(element);
  const markdown = new Markdown(element);
  for (const text of texts) markdown.show(text);
  return html ? element.innerHTML : element.textContent;
}"""


def shown(page: Page, *texts: str, html: bool = True) -> str:
    """What is made of a text, or of one that grows."""
    return page.evaluate(SHOW, [list(texts), html])


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    """One for all of them: none looks at what another has shown."""
    with relays() as start, visiting(browser) as visit:
        yield visit(start(local="echo").root)


LINK = 'target="_blank" rel="noopener noreferrer nofollow"'
FORMS = [
    ("one *two* **three** ***four*** ~~five~~", "<p>one <em>two</em> <strong>three</strong> "
     "<em><strong>four</strong></em> <del>five</del></p>"),
    ("snake_case_name and 2 * 3 * 4", "<p>snake_case_name and 2 * 3 * 4</p>"),
    ("**世界。**后面", "<p><strong>世界。</strong>后面</p>"),
    ("*open **and** not closed", "<p>*open <strong>and</strong> not closed</p>"),
    ("`a *b* <c>` and ``x`y``", "<p><code>a *b* &lt;c&gt;</code> and <code>x`y</code></p>"),
    (r"\*not\* &lt;", "<p>*not* &lt;</p>"),
    ("## Title ##\ntext\nnext", "<h4>Title</h4><p>text<br>next</p>"),
    ("- a\n- b\n  1. c\n  2. d\n\n- e", "<ul><li><p>a</p></li><li><p>b</p><ol><li><p>c</p></li>"
     "<li><p>d</p></li></ol></li><li><p>e</p></li></ul>"),
    ("3. c\n4. d", '<ol start="3"><li><p>c</p></li><li><p>d</p></li></ol>'),
    ("- [x] done\n- [ ] open", '<ul><li class="task"><p>☑ done</p></li>'
     '<li class="task"><p>☐ open</p></li></ul>'),
    ("> a\n> - b\n\nc", "<blockquote><p>a</p><ul><li><p>b</p></li></ul></blockquote><p>c</p>"),
    ("a\n\n---\n\nb", "<p>a</p><hr><p>b</p>"),
    ("|a|b|\n|--|-:|\n|1|`2`\\|3|", '<div class="table" tabindex="0"><table><thead><tr><th>a</th>'
     '<th class="right">b</th></tr></thead><tbody><tr><td>1</td>'
     '<td class="right"><code>2</code>|3</td></tr></tbody></table></div>'),
    ("[a *b*](https://x.example/c_d_e \"t\")", f'<p><a href="https://x.example/c_d_e" {LINK}>'
     "a <em>b</em></a></p>"),
    ("see https://x.example/a(b). 好", f'<p>see <a href="https://x.example/a(b)" {LINK}>'
     "https://x.example/a(b)</a>. 好</p>"),
    ("<mailto:a@b.example>", f'<p><a href="mailto:a@b.example" {LINK}>a@b.example</a></p>'),
    ("![alt](https://x.example/y.png)", f'<p><a href="https://x.example/y.png" {LINK}>alt</a></p>'),
    (r"so \(a_1 * b_1\) and $x_1 = y^{*2*}$.", r'<p>so <code class="formula">\(a_1 * b_1\)</code> '
     'and <code class="formula">$x_1 = y^{*2*}$</code>.</p>'),
    ("text\n$$\na_1 \\\\\n*b*\n$$\nmore", '<p>text</p><pre class="formula" tabindex="0"><code>'
     "$$\na_1 \\\\\n*b*\n$$</code></pre><p>more</p>"),
    ("\\[ x \\].", '<pre class="formula" tabindex="0"><code>\\[ x \\].</code></pre>'),
    ("from $5 to *$6*, $HOME_A and $PATH_B", "<p>from $5 to <em>$6</em>, $HOME_A and $PATH_B</p>"),
    ("a\n$$\n+ b\n$$", '<p>a</p><pre class="formula" tabindex="0"><code>$$\n+ b\n$$</code></pre>'),
    ("a\n*b*\n1.5 c\n#d\n***e***", "<p>a<br><em>b</em><br>1.5 c<br>#d<br>"
     "<em><strong>e</strong></em></p>"),
    ("$$ is money\n\n*b*", "<p>$$ is money</p><p><em>b</em></p>"),
]  # fmt: skip


def test_the_usual_forms(page: Page) -> None:
    for text, html in FORMS:
        assert shown(page, text) == html, text


def test_what_grows_is_what_would_have_been_shown_at_once(page: Page) -> None:
    text = "\n\n".join(text for text, _ in FORMS) + "\n\n```py\nx = 1\n\ny = 2\n```\n\nend"
    growing = [text[:end] for end in range(len(text) + 1)]
    assert shown(page, *growing) == shown(page, text)


def test_only_what_grows_is_made_anew(page: Page) -> None:
    kept = page.evaluate(
        """async () => {
          const { Markdown } = await import("/static/chat/markdown.js");
          const element = document.createElement("div");
          const markdown = new Markdown(element);
          const text = "first\\n\\n```\\n";
          markdown.show(text);
          const [first, code] = element.children;
          markdown.show(text + "one\\ntwo");
          const grown = element.querySelector("pre").textContent;
          markdown.show(text + "one\\ntwo\\n```\\n\\nlast");
          const all = [first === element.children[0], code === element.children[1], grown];
          for (const [text, tag] of [["- a\\n- b", "li"], ["|a|\\n|-|\\n|1|\\n|2", "tbody tr"]]) {
            markdown.show(text);
            const [part, last] = element.querySelectorAll(tag);
            markdown.show(text + "c");
            const [same, other] = element.querySelectorAll(tag);
            all.push(part === same, last === other);
          }
          return all;
        }"""
    )
    assert kept == [True, True, "one\ntwo", True, False, True, False]


def test_code_that_is_whole_has_its_colours(page: Page) -> None:
    text = "```py\ndef f(): return 'a' + 12  # <b>\n```"
    assert 'class="c-' not in shown(page, text[:-3])
    whole = shown(page, text[:-3], text)
    for kind, part in (("word", "def"), ("text", "'a'"), ("number", "12")):
        assert f'<span class="c-{kind}">{part}</span>' in whole
    assert '<span class="c-comment"># &lt;b&gt;</span>' in whole
    assert 'class="c-' not in shown(page, text.replace("py", "brainfuck"))
    assert 'class="c-' not in shown(page, text.replace("12", "12" * 10_000))


def test_colours_change_no_letter(page: Page) -> None:
    sample = "\n".join(
        [*HOSTILE, "let s = `a ${b}`; 'it''s' -- x", '"open', "/* open", "'" + "''open"]
    )
    sample = sample.replace("```", "")
    for language in ("c", "json", "yaml", "python", "shell", "sql", "html"):
        for text in (sample, sample[::-1]):
            lines = shown(page, f"```{language}\n{text}\n```", html=False)
            assert lines == language + text.replace("\t", "    ")


def test_code_can_be_copied(visit: Visit, echo: RunningRelay) -> None:
    page = visit(echo.root, permissions=["clipboard-read", "clipboard-write"])
    page.fill("#query", "```sh\necho '<b>'\n```")
    page.press("#query", "Enter")
    expect(page.locator(".code figcaption span")).to_have_text("sh")
    page.get_by_role("button", name="Copy this code").click()
    expect(page.locator("#told")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "echo '<b>'"


HOSTILE = [
    "<script>hit=1</script>",
    "<img src=x onerror=hit=1>",
    "<svg onload=hit=1><animate onbegin=hit=1 attributeName=x></svg>",
    "<iframe srcdoc='<script>parent.hit=1</script>'></iframe>",
    "<a href='javascript:hit=1'>x</a>",
    "<details open ontoggle=hit=1>x</details>",
    "<math><mtext><table><mglyph><style><img src onerror=hit=1>",
    "<body onload=hit=1><input autofocus onfocus=hit=1>",
    "<meta http-equiv=refresh content='0;url=https://elsewhere.example'>",
    "<base href=https://elsewhere.example/><link rel=stylesheet href=//elsewhere.example>",
    "<form action=javascript:hit=1><button>go</button></form>",
    "[x](javascript:hit=1)",
    "[x](JaVaScRiPt:hit=1)",
    "[x](java\tscript:hit=1)",
    "[x](&#106;avascript:hit=1)",
    "[x](\x01javascript:hit=1)",
    "[x](<javascript:hit=1>)",
    "[x](vbscript:hit=1) [x](data:text/html,<script>hit=1</script>) [x](file:///etc/passwd)",
    "[x](//elsewhere.example) [x](/admin/mode) [x](blob:null/x)",
    "<javascript:hit=1> <data:text/html;base64,PHNjcmlwdD4=>",
    '[x](https://e.example/"onmouseover="hit=1)',
    '[x](https://e.example "t" onclick="hit=1")',
    "![x](https://elsewhere.example/track.png)",
    "![x](javascript:hit=1)",
    '![x" onerror="hit=1](https://elsewhere.example/x)',
    "```html onload=hit=1\n<script>hit=1</script>\n```",
    '```"><img src=x onerror=hit=1>\nx\n```',
    "`<img src=x onerror=hit=1>`",
    "| <img src=x onerror=hit=1> |\n|---|\n| <script>hit=1</script> |",
    "# <img src=x onerror=hit=1>\n> <script>hit=1</script>\n- <svg onload=hit=1>",
    "[<img src=x onerror=hit=1>](https://e.example)",
    "&lt;img src=x onerror=hit=1&gt;",
    "\u202e<script>hit=1</script>\ufeff<img src=x onerror=hit=1>",
]
FOUND = """() => {
  const root = document.getElementById("messages");
  const all = [...root.querySelectorAll("*")];
  const wrong = all.filter((element) =>
    element.matches("script, iframe, object, embed, form, base, meta, link, style, input, img")
    || [...element.attributes].some(({ name }) => name.startsWith("on") || name === "style"));
  const hrefs = [...root.querySelectorAll("a")].map((link) => link.href);
  return [window.hit ?? null, wrong.map((element) => element.outerHTML), hrefs];
}"""


def test_hostile_answers_are_only_text(page: Page) -> None:
    for text in HOSTILE:
        shown(page, text)
    page.fill("#query", "\n\n".join(HOSTILE))
    page.press("#query", "Enter")
    expect(page.locator("#messages .assistant .took")).not_to_be_empty()
    for link in page.locator("#messages a").all()[:6]:
        link.hover()
    hit, wrong, hrefs = page.evaluate(FOUND)
    assert hit is None
    assert wrong == []
    assert hrefs
    assert all(href.startswith(("https://", "http://", "mailto:")) for href in hrefs)


BOMBS: dict[str, Any] = {
    "brackets": "[" * 50_000,
    "links": "[a](" * 20_000,
    "stars": "*a " * 30_000,
    "closers": "*a" * 30_000,
    "mixed": "*a _b ~~c " * 10_000,
    "ticks": "".join("`" * (n % 300 + 1) + " " for n in range(2_000)),
    "quotes": ">" * 20_000 + "x",
    "items": "- " * 10_000 + "x",
    "hashes": "# " + "#" * 50_000 + "x",
    "spaces": "#" + " " * 50_000 + "x",
    "pipes": "|" * 50_000 + "\n" + "|-" * 20_000,
    "angles": "<http://" * 10_000,
    "nested": "\n".join("  " * n + "- x" for n in range(300)),
    "dollars": "$a^" * 20_000,
    "formulas": "$$a\n" * 20_000,
    "formula": "\\\\(" * 20_000,
    **{
        f"{name} in {language}": f"```{language}\n{text * (20_000 // len(text))}\n```"
        for language in ("py", "js", "sh", "sql", "html", "yaml")
        for name, text in {
            "ticks": "`",
            "texts": '"\\',
            "comments": "/*",
            "marks": "'\"#-<",
        }.items()
    },
}


def test_no_answer_is_too_much_for_it(page: Page) -> None:
    # Each is drawn within the page's own limit for one call; a quadratic one would not be.
    for name, text in BOMBS.items():
        assert shown(page, text, html=False).strip(), name
