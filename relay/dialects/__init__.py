"""Other APIs than OpenAI's, translated: parsed JSON, headers and events in, the same out; no I/O.

    chat completions to an Anthropic upstream      anthropic_request, anthropic_answer,
                                                   anthropic_stream, anthropic_models
    `POST /v1/messages` from any backend           messages_request, messages_answer,
                                                   messages_stream
    errors and headers of both, both ways          failures, rate_limits
    where Azure keeps OpenAI's API                 azure

A name says where a thing goes: `to_messages` makes Anthropic's form, `to_chat` OpenAI's.
"""
