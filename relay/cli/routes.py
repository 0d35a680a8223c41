"""The configured models as `relay check` shows them: where each goes, and what looks wrong.

    what          where                              state   detail
    model fast    openai (gpt-4o-mini), azure-eu     ok      first; fallback local; 2 retries
    model fast    azure-eu                           note    it does not list the model 'fast'

A note is no failure: many servers serve more than they list.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from relay.cli.finding import Finding
from relay.settings import ModelSettings, Settings, TargetSettings
from relay.settings.nearest import did_you_mean

LOCAL = "local"

Lists = Mapping[str, Collection[str]]
"""The ids that each upstream told, by its name; upstreams that told none are left out."""


def of_models(settings: Settings, lists: Lists) -> Iterator[Finding]:
    """A row for each model, and one for each thing about it that was hardly meant."""
    # What Azure lists are models, what its targets name are deployments.
    azure = [upstream.name for upstream in settings.all_upstreams() if upstream.kind == "azure"]
    comparable = {name: ids for name, ids in lists.items() if ids and name not in azure}
    for model in settings.models:
        what = f"model {model.id}"
        yield Finding(what, _places(model.targets, model), "ok", "; ".join(_traits(model)))
        for where, doubt in (
            *_unlisted(model, comparable),
            *_repeated(model),
            *_shadowed(model, settings.models),
        ):
            yield Finding(what, where, "note", doubt)


def _places(targets: Sequence[TargetSettings], model: ModelSettings) -> str:
    return ", ".join(_place(target, weighted=model.policy == "weighted") for target in targets)


def _place(target: TargetSettings, *, weighted: bool = False) -> str:
    said = [] if target.model is None else [target.model]
    if weighted:
        said.append(f"weight {target.weight:g}")
    name = target.upstream or LOCAL
    return f"{name} ({', '.join(said)})" if said else name


def _traits(model: ModelSettings) -> Iterator[str]:
    yield model.policy
    if model.aliases:
        yield f"also {', '.join(model.aliases)}"
    if model.fallback:
        yield f"fallback {', '.join(map(_place, model.fallback))}"
    if model.context_fallback:
        yield f"for long prompts {', '.join(map(_place, model.context_fallback))}"
    if model.retries is not None:
        yield f"{model.retries} retries"
    if model.hedge_after_s is not None:
        yield f"hedged after {model.hedge_after_s:g} s"
    if model.single_flight:
        yield "single flight"
    limits = model.timeouts.model_dump(exclude_none=True)
    if limits:
        yield ", ".join(f"{name} {seconds:g}" for name, seconds in limits.items())
    if model.history is not None:
        yield f"history {model.history}"


def _unlisted(model: ModelSettings, lists: Lists) -> Iterator[tuple[str, str]]:
    for target in model.all_targets():
        known = lists.get(target.upstream or LOCAL)
        wanted = target.model or model.id
        # Which ids of a pattern are asked for is known only when they are.
        if known is None or wanted in known or (target.model is None and "*" in wanted):
            continue
        meant = did_you_mean(wanted, known)
        yield _place(target), f"it does not list the model '{wanted}'{meant}"


def _repeated(model: ModelSettings) -> Iterator[tuple[str, str]]:
    chains = {
        "targets": (model.targets,),
        "fallback": (model.targets, model.fallback),
        "context_fallback": (model.targets, model.context_fallback),
    }
    for name, (*before, chain) in chains.items():
        seen = {_same(target, model) for part in before for target in part}
        for target in chain:
            if _same(target, model) in seen:
                yield _place(target), f"{name} repeats it: calls that failed there fail again"
            seen.add(_same(target, model))


def _same(target: TargetSettings, model: ModelSettings) -> tuple[str, str]:
    return target.upstream or LOCAL, target.model or model.id


def _shadowed(model: ModelSettings, models: Sequence[ModelSettings]) -> Iterator[tuple[str, str]]:
    names = [name for one in models for name in (one.id, *one.aliases)]
    # The order in which patterns are tried: the longest first.
    patterns = sorted((name for name in names if "*" in name), key=len, reverse=True)
    for name in (model.id, *model.aliases):
        if name not in patterns:
            continue
        # What stands for its `*` here can only be matched by a `*`, which would match anything.
        whole = name.replace("*", "\0")
        for other in patterns[: patterns.index(name)]:
            if fnmatchcase(whole, other):
                yield "", f"the pattern '{name}' is never used: '{other}' takes all of it"
                break
