/* One question to a model on a device: cc main.c -lllama -lggml -lggml-base && ./a.out model-q4_0.gguf "What is 4 + 8?"
 *
 * Before the file: -c CONTEXT, -b BATCH, -t THREADS, -n TOKENS, -8 (cache in 8 bits), -r (no repacked copy of the
 * weights), -i (token ids instead of text), -m (what it took, on standard error).
 */
#define _POSIX_C_SOURCE 200809L
#include "deepmill.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void errors_only(enum ggml_log_level level, const char *text, void *unused) {
    (void)unused;
    if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* The most memory so far, in KiB, by Linux; getrusage would begin with that of whoever started us. */
static long peak_kib(void) {
    char line[128];
    long found = 0;
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status))
        if (sscanf(line, "VmHWM: %ld", &found) == 1) break;
    if (status) fclose(status);
    return found;
}

int main(int count, char **words) {
    deepmill_options options = {.context = 512, .batch = 64, .threads = 1};
    int option, most = 256, ids = 0, measure = 0, written = 0;
    while ((option = getopt(count, words, "c:b:t:n:8rim")) != -1)
        switch (option) {
        case 'c': options.context = (uint32_t)atoi(optarg); break;
        case 'b': options.batch = (uint32_t)atoi(optarg); break;
        case 't': options.threads = atoi(optarg); break;
        case 'n': most = atoi(optarg); break;
        case '8': options.cache_8_bits = true; break;
        case 'r': options.no_repack = true; break;
        case 'i': ids = 1; break;
        case 'm': measure = 1; break;
        default: return 2;
        }
    if (count - optind != 2 || !options.context || !options.batch) {
        fprintf(stderr, "usage: %s [options] FILE QUESTION\n", words[0]);
        return 2;
    }
    deepmill mill;
    long before = peak_kib(), loaded;
    double begun = seconds(), first = 0;
    llama_log_set(errors_only, NULL);
    if (!deepmill_open(&mill, words[optind], options)) {
        fprintf(stderr, "%s: not loaded\n", words[optind]);
        return 1;
    }
    loaded = peak_kib();
    llama_token *room = malloc(options.context * sizeof *room), token;
    if (!room || !deepmill_ask(&mill, words[optind + 1], room, (int32_t)options.context)) {
        fprintf(stderr, "the question does not fit into %u tokens\n", options.context);
        return 1;
    }
    for (; written < most && (token = deepmill_next(&mill)) >= 0; written++) {
        char text[256]; /* a character may be spread over several tokens */
        if (!written) first = seconds() - begun;
        if (ids) printf("%d ", token);
        else fwrite(text, 1, (size_t)llama_token_to_piece(mill.vocab, token, text, sizeof text, 0, true), stdout);
        fflush(stdout);
    }
    putchar('\n');
    if (measure)
        fprintf(stderr, "before_kib %ld loaded_kib %ld peak_kib %ld first_ms %.1f tokens %d | %s\n", before, loaded,
                peak_kib(), 1e3 * first, written, llama_print_system_info());
    free(room);
    deepmill_close(&mill);
    return 0;
}
