/* What examples/device/ uses of llama.cpp's llama.h (MIT), for machines that have the library and no header: wheels and
 * npm packages ship none. As in v0.5.0 and v0.6.0, whose structs begin alike; `rest` is room for how they go on. Both
 * x86-64 and ARM64 pass such structs in memory, and read no further than they know. The tests check the fields.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

typedef int32_t llama_token;
struct llama_model;
struct llama_context;
struct llama_vocab;
enum ggml_log_level { GGML_LOG_LEVEL_ERROR = 4 };
enum ggml_type { GGML_TYPE_F16 = 1, GGML_TYPE_Q8_0 = 8 };

struct llama_model_params {
    const void *devices, *tensor_buft_overrides;
    int32_t n_gpu_layers, split_mode, load_mode, lazy_mode, main_gpu;
    const void *tensor_split, *progress_callback, *progress_callback_user_data, *kv_overrides;
    bool vocab_only, check_tensors, use_extra_bufts;
    char rest[64];
};

struct llama_context_params {
    uint32_t n_ctx, n_batch, n_ubatch, n_seq_max, n_rs_seq, n_outputs_max, n_outputs_max_per_seq;
    int32_t n_threads, n_threads_batch, ctx_type, rope_scaling_type, pooling_type, attention_type, flash_attn_type;
    float rope_freq_base, rope_freq_scale, yarn_ext_factor, yarn_attn_factor, yarn_beta_fast, yarn_beta_slow;
    uint32_t yarn_orig_ctx;
    float defrag_thold;
    const void *cb_eval, *cb_eval_user_data;
    enum ggml_type type_k, type_v;
    char rest[256];
};

typedef struct {
    int32_t n_tokens;
    llama_token *token;
    float *embd;
    int32_t *pos, *n_seq_id;
    int32_t **seq_id;
    int8_t *logits;
} llama_batch;

void ggml_backend_load_all(void);
void llama_log_set(void (*say)(enum ggml_log_level, const char *, void *), void *);
const char *llama_print_system_info(void);
struct llama_model_params llama_model_default_params(void);
struct llama_model *llama_model_load_from_file(const char *, struct llama_model_params);
void llama_model_free(struct llama_model *);
struct llama_context_params llama_context_default_params(void);
struct llama_context *llama_init_from_model(struct llama_model *, struct llama_context_params);
void llama_free(struct llama_context *);
uint32_t llama_n_ctx(const struct llama_context *);
uint32_t llama_n_batch(const struct llama_context *);
const struct llama_vocab *llama_model_get_vocab(const struct llama_model *);
int32_t llama_vocab_n_tokens(const struct llama_vocab *);
bool llama_vocab_is_eog(const struct llama_vocab *, llama_token);
int32_t llama_tokenize(const struct llama_vocab *, const char *, int32_t, llama_token *, int32_t, bool, bool);
int32_t llama_token_to_piece(const struct llama_vocab *, llama_token, char *, int32_t, int32_t, bool);
llama_batch llama_batch_get_one(llama_token *, int32_t);
int32_t llama_decode(struct llama_context *, llama_batch);
float *llama_get_logits_ith(struct llama_context *, int32_t);
