"""What happens with field X? Fields that clients send to other servers and that have no effect here, in one table.

Fields that do something are declared with their API; see `BODY` there. Everything that is in neither is unknown:
--unknown-fields says whether it is named, ignored or refused. foreign.py explains the three ways that a row can be
read. A value of null is always as good as none.
"""

from verbatim.server.api.foreign import Foreign, anything, refusals, wishes
from verbatim.server.api.value_types import BOOLEAN, NUMBER, STRING

# In the body of every API.
REQUEST: dict[str, Foreign] = {
    # OpenAI
    **refusals(
        audio=(), function_call=("none", "auto"), functions=[], modalities=["text"], moderation=(),
        web_search_options=(),
    ),
    **wishes(
        prompt_cache_options={}, prompt_cache_retention="in_memory", reasoning_effort="none",
        service_tier=("auto", "default"), store=False, verbosity="medium", extra_body={},
        extra_headers={}, extra_query={}, chat_template_kwargs={},
    ),
    **anything(STRING, "user safety_identifier"),
    **anything(None, "timeout request_timeout"),
    # vLLM and SGLang
    **refusals(
        use_beam_search=False, best_of=1, skip_special_tokens=True, add_generation_prompt=True, echo=False,
        continue_final_message=False, chat_template=(), return_tokens_as_token_ids=False, return_token_ids=False,
        allowed_token_ids=[], bad_words=[], logits_processors=[], documents=[], regex="", ebnf="", stop_regex=([], ""),
        json_schema=({}, ""), custom_logit_processor=(), return_hidden_states=False, input_embeds=(), lora_path="",
        no_stop_trim=False, prompt_embeds=(), input_ids=(), response_format={"type": "text"}, tools=[],
        tool_choice=("none", "auto"), prompt_logprobs=(), suffix="",
    ),
    **wishes(
        length_penalty=1, early_stopping=False, truncate_prompt_tokens=-1, add_special_tokens=(False, True),
        mm_processor_kwargs={}, thinking_token_budget=-1, guided_whitespace_pattern="", vllm_xargs={}, n_probs=0,
        return_prompt_text=False, return_routed_experts=False,
    ),
    **anything(BOOLEAN, """
        spaces_between_special_tokens separate_reasoning stream_reasoning include_reasoning detokenize log_metrics
    """),
    **anything(None, """
        guided_decoding_backend priority request_id rid kv_transfer_params data_parallel_rank bootstrap_host
        bootstrap_port bootstrap_room session_params structural_tag_format extra_key truncation_side
    """),
    # llama.cpp, KoboldCpp, TabbyAPI, text-generation-webui; SillyTavern and Open WebUI send all of them
    **refusals(
        grammar="", grammar_string="", lora=[], images=[], ban_eos_token=False, banned_tokens=([], ""),
        banned_strings=([], ""), custom_token_bans=([], ""), negative_prompt="", image_data=[], n_indent=0,
    ),
    **wishes(
        mirostat=0, mirostat_mode=0, tfs_z=1, tfs=1, typical_p=1, typical=1, top_a=0, top_n_sigma=(-1, 0), nsigma=0,
        dynatemp_range=0, dynamic_temperature=False, dry_multiplier=0, xtc_probability=0, smoothing_factor=0,
        repeat_penalty=1, rep_pen=1, encoder_repetition_penalty=1, no_repeat_ngram_size=0, epsilon_cutoff=0,
        eta_cutoff=0, penalty_alpha=0, guidance_scale=1, cfg_scale=1, num_beams=1, min_length=0, skew=0, speculative={},
        n_predict=(-1, -2), num_predict=(-1, -2), max_new_tokens=-1, max_length=-1, token_healing=False, do_sample=True,
        adaptive_target=-1, ban_eos=False, add_bos_token=True, presence_pen=0, freq_pen=0, samplers=[],
        return_progress=False, timings_per_token=False, post_sampling_probs=False, min_keep=0, logit_bias_exp=[],
    ),
    **anything(NUMBER, """
        mirostat_tau mirostat_eta dynatemp_exponent dynatemp_low dynatemp_high min_temp max_temp temp_exponent dry_base
        dry_allowed_length dry_penalty_last_n dry_range xtc_threshold smoothing_curve repeat_last_n rep_pen_range
        rep_pen_slope repetition_penalty_range penalty_range penalty_last_n repetition_decay n_keep n_discard id_slot
        slot_id n_ctx n_batch n_threads t_max_predict_ms t_max_prompt_ms truncation_length adaptive_decay
        max_context_length
    """),
    **anything(BOOLEAN, """
        cache_prompt penalize_nl temperature_last parse_tool_calls use_default_badwordsids can_abort legacy_api
        auto_max_new_tokens backend_sampling grammar_lazy reasoning_in_content
    """),
    **anything(None, """
        dry_sequence_breakers sampler_order sampler_priority sampler_seq reasoning_format chat_format preserved_tokens
        grammar_triggers response_fields api_type api_server genkey
    """),
    # Ollama and Open WebUI
    **refusals(raw=False, template="", system="", context=[], files=[], format=""),
    **wishes(think=(False, "none"), options={}, tool_servers=[], features={}),
    **anything(NUMBER, """
        num_ctx num_keep num_batch num_gpu num_thread num_threads main_gpu
    """),
    **anything(BOOLEAN, "use_mmap use_mlock low_vram f16_kv numa vocab_only logits_all penalize_newline"),
    **anything(None, """
        keep_alive chat_id session_id message_id id background_tasks variables model_item filter_ids tool_ids
        function_calling stream_response params
    """),
    # LM Studio, OpenRouter, LiteLLM, TGI, Mistral, Groq, DeepSeek, Azure and their clients
    **refusals(
        integrations=[], plugins=[], data_sources=[], search_settings=(), decoder_input_details=False, details=False,
        adapter_id="", watermark=False, top_n_tokens=0, return_full_text=False, enable_web_search=False,
        request_images=False, mock_response=(), guardrails=[], image_config={}, enable_search=False,
    ),
    **wishes(
        transforms=[], thinking=({"type": "disabled"}, {}), enable_thinking=False, thinking_budget=0, safe_prompt=False,
        preset="", random_seed=(), truncate=(), reasoning=({}, {"effort": "none"}, {"enabled": False}),
        incremental_output=True,
    ),
    **anything(None, """
        ttl draft_model context_length provider models route usage trace debug drop_params additional_drop_params
        allowed_openai_params num_retries max_retries fallbacks tags caching cache litellm_metadata litellm_call_id
        litellm_session_id litellm_trace_id litellm_params custom_llm_provider api_base base_url prompt_mode
        citation_options disable_tool_validation include_domains exclude_domains user_security_context client_metadata
        extra_params anthropic_beta stream_mode cache_control tool_prompt guideline
    """),
}  # fmt: skip

# In that of chats and of completions, where OpenAI has them; responses declare what they repeat.
STREAM_OPTIONS = wishes(continuous_usage_stats=False, chunk_include_usage=False, include_reasoning=False)

# Of POST /v1/responses.
RESPONSE: dict[str, Foreign] = REQUEST | {
    **refusals(background=False, conversation=(), prompt=(), n=1),
    **wishes(truncation="disabled", context_management=[]),
    **anything(NUMBER, "max_tool_calls"),
}

# Of POST /v1/embeddings and /tokenize.
EMBEDDING: dict[str, Foreign] = REQUEST | {
    **refusals(embedding_types=([], ["float"]), images=[], late_chunking=False, output_dtype="float"),
    **wishes(
        add_special_tokens=True,
        normalize=True,
        normalized=True,
        input_type="",
        task="",
        prompt_name="",
        instruction="",
        truncate=(True, False, "NONE", "END"),
        truncation=(True, False),
        embedding_type="float",
    ),
}

# In its `reasoning`: there is none to summarize.
REASONING = wishes(effort="none", enabled=False, max_tokens=0) | anything(
    None, "summary generate_summary encrypted_content exclude context mode"
)

# In a message of a chat. What an answer carried comes back with it.
MESSAGE: dict[str, Foreign] = {
    **refusals(audio=(), function_call=(), images=[], prefix=False, partial=False),
    **wishes(tool_calls=[]),
    **anything(None, """
        provider_specific_fields cache_control annotations parsed reasoning reasoning_details thinking thinking_blocks
        reasoning_content refusal extra_content executed_tools citations tool_calls_results metadata additional_kwargs
        response_metadata usage usage_metadata finish_reason stop_reason logprobs token_ids prompt_cache_breakpoint
        example is_error status timestamp created created_at id object model provider index channel phase
        name tool_name recipient weight
    """),
}  # fmt: skip

# In a part of a message's content, and in a call that comes back.
PART = anything(
    None,
    """
    cache_control annotations citations logprobs provider_specific_fields prompt_cache_breakpoint id index signature
    extra_content metadata providerOptions
""",
)
CALL = anything(
    None,
    """
    index parsed_arguments provider_specific_fields extra_content thought_signature cache_control caller status
    prompt_cache_breakpoint parsed signature result
""",
)

# In a tool that is offered, and in its function.
TOOL = anything(
    None,
    """
    cache_control defer_loading allowed_callers input_examples eager_input_streaming output_schema annotations title
    metadata provider_specific_fields prompt_cache_breakpoint returns _meta execution icons
""",
)

# In an item of POST /v1/responses.
ITEM = anything(
    None,
    """
    phase annotations provider_specific_fields cache_control parsed parsed_arguments namespace caller created_by agent
    metadata internal_metadata end_turn model provider_data extra_content
""",
)
