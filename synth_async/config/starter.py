"""The config that `synth-async init` writes."""

from __future__ import annotations

__all__ = ["STARTER"]

STARTER = """\
# A synth-async config. As it stands it runs without a key, against the embedded endpoint: the examples are simulated.
# All mistakes in it, and what a run would cost:  synth-async validate THIS_FILE

name: my_dataset                  # the run's folder is runs/my_dataset
domain: customer support for a SaaS billing platform
system_prompt: |                  # system message of the model that you will train
  You are a support agent for BillingPro. Be accurate, concrete and kind.
target: 200                       # accepted examples wanted: dataset.jsonl will have exactly so many lines

# context:
#   file: policy.md               # a document that the examples must agree with, relative to this file

endpoints:
  main:
    base_url: simulator           # the embedded endpoint
    model: simulator
    # In place of the two lines above, for OpenAI (the key is in the variable OPENAI_API_KEY):
    # model: gpt-4o-mini
    # rpm: 500                    # requests and tokens per minute that your account allows
    # tpm: 200000
    # or for any other OpenAI-compatible endpoint:
    # base_url: http://localhost:8000/v1
    # model: the-model-it-serves
    # api_key_env: MY_KEY         # name of the variable that holds the key, never the key

topics:
  count: 100                      # seed topics, asked of the model
  # file: topics.txt              # or your own, one a line

generation:
  examples_per_topic: 3
  temperature: 0.8

facets:                           # axes of variation, drawn in balance: values, or values with weights
  tone: [calm, frustrated, confused]
  channel: {chat: 2, email: 1}

judge:                            # null turns judging off
  min_score: 4.0                  # mean of the scores (1-5) that an example needs
  criteria: [helpfulness, accuracy, naturalness, policy]

dedup:
  threshold: 0.80                 # similarity above which the later of two examples is dropped
"""
"""A commented config that loads without mistakes and needs no key."""
