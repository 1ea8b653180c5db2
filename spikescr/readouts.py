"""Names of what makes one answer of a network's outputs over the steps: of the dialect, the simulator, the options."""

SOFTMAX_SUM = "softmax_sum"  # sum over the valid steps of softmax(output)
SUM = "sum"  # of the output over the valid steps
MEAN = "mean"  # the same over their number
LAST = "last"  # the output of the last valid step
VOTES = "votes"  # valid steps at which an output was the largest; the first of equal ones, none where all are equal
READOUTS = (SOFTMAX_SUM, SUM, MEAN, LAST, VOTES)
