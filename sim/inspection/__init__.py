"""What a graph holds, layer by layer, whether it can be run or not, and its picture."""
