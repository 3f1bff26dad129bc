"""Cross entropy with a penalty on the logarithm of the softmax's denominator."""
