/* A model made by Deepmill on a device: llama.cpp's C interface, from a GGUF file to the likeliest tokens.
 *
 * Header only, C99; llama.h is that of the llama.cpp you link. What it takes: deepmill doctor --device, docs/device.md.
 */
#ifndef DEEPMILL_H
#define DEEPMILL_H

#include <llama.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    uint32_t context;  /* tokens of question and answer together */
    uint32_t batch;    /* tokens of the question that are read at once: fewer take less memory */
    int32_t threads;   /* cores */
    bool cache_8_bits; /* keys and values in 8 bits instead of 16 */
    bool no_repack;    /* no second copy of the weights for int8 products: less memory, slower */
} deepmill_options;

typedef struct {
    struct llama_model *model;
    struct llama_context *context;
    const struct llama_vocab *vocab;
} deepmill;

static inline void deepmill_close(deepmill *mill) {
    if (mill->context) llama_free(mill->context);
    if (mill->model) llama_model_free(mill->model);
    memset(mill, 0, sizeof *mill);
}

/* Load a GGUF file. False, and nothing left to close, where it cannot be read or memory does not suffice. */
static inline bool deepmill_open(deepmill *mill, const char *path, deepmill_options options) {
    struct llama_model_params loading = llama_model_default_params();
    struct llama_context_params chosen = llama_context_default_params();
    memset(mill, 0, sizeof *mill);
    ggml_backend_load_all(); /* the kernels for this processor, where llama.cpp is built with several */
    loading.use_extra_bufts = !options.no_repack;
    mill->model = llama_model_load_from_file(path, loading);
    if (!mill->model) return false;
    chosen.n_ctx = options.context;
    chosen.n_batch = chosen.n_ubatch = options.batch;
    chosen.n_outputs_max = 1; /* only the last token of a batch is asked for what follows */
    chosen.n_threads = chosen.n_threads_batch = options.threads;
    if (options.cache_8_bits) chosen.type_k = chosen.type_v = GGML_TYPE_Q8_0;
    mill->context = llama_init_from_model(mill->model, chosen);
    mill->vocab = llama_model_get_vocab(mill->model);
    if (!mill->context) deepmill_close(mill);
    return mill->context != NULL;
}

/* Read `count` tokens, a batch at a time. False where the context is full. */
static inline bool deepmill_read(deepmill *mill, llama_token *ids, int32_t count) {
    int32_t batch = (int32_t)llama_n_batch(mill->context);
    for (int32_t read = 0; read < count; read += batch) {
        int32_t some = count - read < batch ? count - read : batch;
        if (llama_decode(mill->context, llama_batch_get_one(ids + read, some)) != 0) return false;
    }
    return true;
}

/* Read a question in the chat format of Deepmill's own tokenizers; `ids` is room for `most` tokens. False: too long. */
static inline bool deepmill_ask(deepmill *mill, const char *question, llama_token *ids, int32_t most) {
    const char *parts[] = {"<|bos|><|user|>", question, "<|assistant|>"};
    int32_t count = 0;
    for (int part = 0; part < 3; part++) { /* what looks like a control token in the question stays text */
        int32_t bytes = (int32_t)strlen(parts[part]);
        int32_t found = llama_tokenize(mill->vocab, parts[part], bytes, ids + count, most - count, false, part != 1);
        if (found < 0) return false;
        count += found;
    }
    return deepmill_read(mill, ids, count);
}

/* The likeliest next token, which is read as well; -1 at the end of the answer or of the context. */
static inline llama_token deepmill_next(deepmill *mill) {
    const float *logits = llama_get_logits_ith(mill->context, -1);
    llama_token best = 0;
    for (llama_token each = 1; each < llama_vocab_n_tokens(mill->vocab); each++)
        if (logits[each] > logits[best]) best = each;
    return llama_vocab_is_eog(mill->vocab, best) || !deepmill_read(mill, &best, 1) ? -1 : best;
}

#endif
