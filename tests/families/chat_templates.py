"""Chat templates that behave, in the parts that matter here, as those of the model families are documented to.

Each is written for these tests; none is a copy. What differs: whether a completed turn keeps its trace and
under which key it is read, whether the generation prompt opens the trace, how thinking is switched off, which token
ends a turn, and whether a system message is allowed.
"""

_CHATML_HISTORY = """\
{%- for message in messages %}
{%- if message.role != 'assistant' %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- else %}
"""
_END_OF_HISTORY = """\
{%- endif %}
{%- endfor %}
"""

# The last turn keeps its trace, without the line breaks at its ends; enable_thinking=False writes an empty block.
QWEN3 = (
    _CHATML_HISTORY
    + """\
{%- set thought = message.reasoning_content if message.reasoning_content is string else '' %}
{{- '<|im_start|>assistant\\n' }}
{%- if loop.last %}
{{- '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + message.content.lstrip('\\n') }}
{%- else %}
{{- message.content }}
{%- endif %}
{{- '<|im_end|>\\n' }}
"""
    + _END_OF_HISTORY
    + """\
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}
{{- '<think>\\n\\n</think>\\n\\n' }}
{%- endif %}
{%- endif %}"""
)

# As Qwen3, but the generation prompt opens the trace, and thinking is off unless asked for.
QWEN3_OPENS = (
    QWEN3[: QWEN3.index("{%- if add_generation_prompt %}")]
    + """\
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n<think>\\n' }}
{%- if not (enable_thinking is defined and enable_thinking) %}
{{- '\\n</think>\\n\\n' }}
{%- endif %}
{%- endif %}"""
)

# Everything up to </think> is cut from completed turns; the generation prompt opens the trace; no switch.
QWQ = (
    _CHATML_HISTORY
    + """\
{{- '<|im_start|>assistant\\n' + message.content.split('</think>')[-1].lstrip('\\n') + '<|im_end|>\\n' }}
"""
    + _END_OF_HISTORY
    + """\
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n<think>\\n' }}
{%- endif %}"""
)

# The DeepSeek-R1 distillations: system text without a marker, traces cut from completed turns, trace opened.
R1_DISTILL = """\
{{- bos_token }}
{%- for message in messages %}
{%- if message.role == 'system' %}
{{- message.content }}
{%- elif message.role == 'user' %}
{{- '<｜User｜>' + message.content }}
{%- else %}
{{- '<｜Assistant｜>' + message.content.split('</think>')[-1] + '<｜end▁of▁sentence｜>' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<｜Assistant｜><think>\\n' }}
{%- endif %}"""
# Their first edition, and DeepSeek-R1-0528: the model opens the trace itself.
R1_MODEL_OPENS = R1_DISTILL.replace("<｜Assistant｜><think>\\n", "<｜Assistant｜>")

# No word about thinking; what is in the content stays.
LLAMA = """\
{{- bos_token }}
{%- for message in messages %}
{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + (message.content | trim) + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}"""

# Llama-Nemotron: a system message switches thinking off; traces are cut from completed turns.
NEMOTRON = """\
{{- bos_token }}
{%- set switch = namespace(thinking=true) %}
{%- if messages[0].role != 'system' %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\n<|eot_id|>' }}
{%- endif %}
{%- for message in messages %}
{%- set text = message.content %}
{%- if message.role == 'system' and '/no_think' in text %}
{%- set switch.thinking = false %}
{%- set text = text.replace('/no_think', '') | trim %}
{%- endif %}
{%- if message.role == 'assistant' %}
{%- set text = text.split('</think>')[-1].lstrip() %}
{%- endif %}
{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + text + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- if not switch.thinking %}
{{- '<think>\\n\\n</think>\\n\\n' }}
{%- endif %}
{%- endif %}"""

# No system role, "model" for the assistant, turns ended by a token that is not the end of text.
GEMMA = """\
{{- bos_token }}
{%- for message in messages %}
{%- if message.role == 'system' %}
{{- raise_exception('this model has no system role') }}
{%- endif %}
{%- set name = 'model' if message.role == 'assistant' else message.role %}
{{- '<start_of_turn>' + name + '\\n' + (message.content | trim) + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<start_of_turn>model\\n' }}
{%- endif %}"""

# Gemma 4: a system turn that asks for thinking, traces in a channel that is cut from completed turns, and an empty
# channel in the prompt where thinking is off, which it is unless asked for.
GEMMA4 = """\
{%- set thinks = enable_thinking is defined and enable_thinking %}
{%- set system = messages[0].content if messages[0].role == 'system' else '' %}
{{- bos_token }}
{%- if thinks or system %}
{{- '<|turn>system\\n' + ('<|think|>' if thinks else '') + (system | trim) + '<turn|>\\n' }}
{%- endif %}
{%- for message in messages if message.role != 'system' %}
{%- set name = 'model' if message.role == 'assistant' else message.role %}
{{- '<|turn>' + name + '\\n' + (message.content.split('<channel|>')[-1] | trim) + '<turn|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|turn>model\\n' + ('' if thinks else '<|channel>thought\\n<channel|>') }}
{%- endif %}"""

# A line of the system message says whether to think, and the date; traces stay where they are in the content.
SMOLLM3 = """\
{%- set thinks = not (enable_thinking is defined and not enable_thinking) %}
{%- set given = messages[0].content if messages[0].role == 'system' else 'You are a helpful assistant.' %}
{%- if '/no_think' in given %}
{%- set thinks = false %}
{%- endif %}
{{- '<|im_start|>system\\nToday: ' + strftime_now('%d %B %Y') + '\\n' }}
{{- 'Reasoning Mode: ' + ('/think' if thinks else '/no_think') + '\\n\\n' }}
{{- given.replace('/no_think', '') | trim }}
{{- '<|im_end|>\\n' }}
{%- for message in messages %}
{%- if message.role == 'assistant' %}
{{- '<|im_start|>assistant\\n' + ('' if thinks else '<think>\\n\\n</think>\\n') }}
{{- message.content.lstrip('\\n') + '<|im_end|>\\n' }}
{%- elif message.role != 'system' %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' + ('' if thinks else '<think>\\n\\n</think>\\n') }}
{%- endif %}"""

# The user's message carries the switch, turns have no end token of their own, and thinking off leaves the line break
# before the answer to the model.
GLM = """\
{{- '[gMASK]<sop>' }}
{%- set quiet = enable_thinking is defined and not enable_thinking %}
{%- for message in messages %}
{%- if message.role == 'assistant' %}
{%- set thought = message.reasoning_content if message.reasoning_content is string and loop.last else '' %}
{{- '<|assistant|>\\n<think>' + (thought | trim) + '</think>\\n' + (message.content | trim) }}
{%- else %}
{{- '<|' + message.role + '|>\\n' + message.content + ('/nothink' if quiet and message.role == 'user' else '') }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|assistant|>' + ('\\n<think></think>' if quiet else '') }}
{%- endif %}"""

# gpt-oss: channels instead of tags; the trace is read from "thinking"; the last turn ends in another token.
CHANNELS = """\
{{- '<|start|>system<|message|>Current date: ' + strftime_now("%Y-%m-%d") + '\\n\\nReasoning: medium<|end|>' }}
{%- for message in messages %}
{%- if message.role == 'assistant' %}
{%- if message.thinking is string and message.thinking and loop.last %}
{{- '<|start|>assistant<|channel|>analysis<|message|>' + message.thinking + '<|end|>' }}
{%- endif %}
{{- '<|start|>assistant<|channel|>final<|message|>' + message.content }}
{{- '<|return|>' if loop.last and not add_generation_prompt else '<|end|>' }}
{%- else %}
{%- set name = 'developer' if message.role == 'system' else message.role %}
{{- '<|start|>' + name + '<|message|>' + message.content + '<|end|>' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|start|>assistant' }}
{%- endif %}"""

# LFM2: the trace is read from "thinking", directly between the tags; no switch.
LFM = """\
{{- bos_token }}
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'assistant' and message.thinking is string and loop.last %}
{{- '<think>' + message.thinking + '</think>' }}
{%- endif %}
{{- message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}"""

# DeepSeek-V3.1: thinking is off unless asked for by another name, and then the prompt closes a block it never opened.
DEEPSEEK_V31 = """\
{{- bos_token }}
{%- for message in messages %}
{%- if message.role == 'system' %}
{{- message.content }}
{%- elif message.role == 'user' %}
{{- '<｜User｜>' + message.content }}
{%- else %}
{{- '<｜Assistant｜></think>' + message.content.split('</think>')[-1] + '<｜end▁of▁sentence｜>' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<｜Assistant｜>' + ('<think>' if thinking is defined and thinking else '</think>') }}
{%- endif %}"""

# For a base model that has none; given by a file.
PLAIN = """\
{%- for message in messages %}
{{- message.role + ': ' + message.content + ('<|endoftext|>' if message.role == 'assistant' else '\\n') }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- 'assistant: ' }}
{%- endif %}"""
