"""The naive ways: one call of the target for each token, everything computed again, and a branch
of its own for every candidate of a tree."""

import numpy as np


def generate_greedy(target_model, draft_model, prompt, max_new_tokens, *, gamma=4):
    tokens = prompt
    for _ in range(max_new_tokens):
        tokens = np.append(tokens, target_model(tokens, 0)[-1].argmax())
    return tokens[len(prompt) :]


def generate(rng, target_model, draft_model, prompt, max_new_tokens, *, gamma=4):
    tokens = prompt
    for _ in range(max_new_tokens):
        logits = target_model(tokens, 0)[-1]
        p = np.exp(logits - logits.max())
        tokens = np.append(tokens, rng.choice(len(p), p=p / p.sum()))
    return tokens[len(prompt) :]


def generate_lookup(target_model, prompt, max_new_tokens, *, gamma=4):
    return generate_greedy(target_model, None, prompt, max_new_tokens)


def build_tree(root, candidates):
    tokens, parents = [root], [-1]
    for candidate in candidates:
        for depth, token in enumerate(candidate):
            parents.append(len(tokens) - 1 if depth else 0)
            tokens.append(int(token))
    return np.array(tokens), np.array(parents)
