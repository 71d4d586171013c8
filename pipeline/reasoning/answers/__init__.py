"""What an answer is, and when two are the same: a pure comparison, without processes and without evaluating code.

`judge` is the one entry; `find_type` tells what an expected answer is. Each reader (`numbers`, `quantities`, `dates`,
`lists`, `formulas`, ...) turns text into a value or says that it is none.
"""
