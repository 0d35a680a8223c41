"""What a request through relay costs, beside nginx in the same run: `make bench`.

load.py --> relay or nginx --> upstream.py         run.py starts them, pins them, reads /proc
core 1      core 0             core 1

workloads.py   what is asked            processes.py   starting, pinning, CPU, memory
upstream.py    who answers              measure.py     one measurement, rounds, medians
load.py        who asks                 memory.py      what an open stream weighs
run.py         the command              report.py, plots.py   tables, pictures
"""
