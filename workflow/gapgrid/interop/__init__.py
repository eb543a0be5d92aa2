"""Other people's files: lm-eval's samples, and the exports of the paper's scripts."""
