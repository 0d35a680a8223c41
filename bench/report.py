"""The tables of a run, as Markdown, and its numbers as JSON."""
def line(name, rounds, failures): 
    from bench.measure import medians
    return name + "  " + "  ".join(f"{k}: " + ", ".join(f"{a} {b:.1f}" for a,b in medians(v).items()) for k,v in rounds.items())+ str(failures)
def write(outcome, folder):
    import json
    folder.mkdir(exist_ok=True); (folder/"latest.json").write_text(json.dumps(outcome))
