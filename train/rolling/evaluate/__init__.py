"""The judgement of text to video: on prompts that it has never met, by a reader of its pixels."""
