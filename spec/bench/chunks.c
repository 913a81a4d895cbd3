/* The floor of the object store: the same bytes published as chunks into a stream of an object store's kind with a
 * few in flight, and read back by an ordered consumer. No hash, no metadata, nothing kept.
 *
 * usage: chunks --url URL [--bytes N] [--chunk N] [--in-flight N]
 * prints one line of name=value. */
#include "common.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STREAM "OBJ_floor"
#define CHUNKS "$O.floor.C.x"

static void make_stream(jsCtx *js) {
    const char *subjects[] = {"$O.floor.C.>"};
    jsStreamConfig config;
    jsStreamConfig_Init(&config);
    config.Name = STREAM;
    config.Subjects = subjects;
    config.SubjectsLen = 1;
    config.Discard = js_DiscardNew;
    config.AllowDirect = true;
    bench_check(js_AddStream(NULL, js, &config, NULL, NULL), "create the stream");
}

static void put(jsCtx *js, long bytes, long chunk) {
    char *data = malloc((size_t)chunk);
    if (!data)
        bench_die("no memory");
    memset(data, 'x', (size_t)chunk);
    for (long at = 0; at < bytes; at += chunk) {
        long left = bytes - at;
        bench_check(js_PublishAsync(js, CHUNKS, data, (int)(left < chunk ? left : chunk), NULL), "publish");
    }
    jsPubOptions wait;
    jsPubOptions_Init(&wait);
    wait.MaxWait = 60000;
    bench_check(js_PublishAsyncComplete(js, &wait), "wait for the acknowledgements");
    free(data);
}

static void get(jsCtx *js, long bytes) {
    jsSubOptions options;
    jsSubOptions_Init(&options);
    options.Ordered = true;
    options.Stream = STREAM;
    natsSubscription *sub = NULL;
    bench_check(js_SubscribeSync(&sub, js, CHUNKS, NULL, &options, NULL), "subscribe");
    for (long have = 0; have < bytes;) {
        natsMsg *msg = NULL;
        bench_check(natsSubscription_NextMsg(&msg, sub, 10000), "receive");
        have += natsMsg_GetDataLength(msg);
        natsMsg_Destroy(msg);
    }
    natsSubscription_Destroy(sub);
}

int main(int argc, char **argv) {
    long bytes = bench_number(argc, argv, "bytes", 50L << 20), chunk = bench_number(argc, argv, "chunk", 131072);
    if (bytes < 1 || chunk < 1)
        bench_die("nothing to do");
    natsConnection *nc = bench_connect(bench_option(argc, argv, "url", NATS_DEFAULT_URL), "bench-chunks");
    jsOptions options;
    jsOptions_Init(&options);
    options.PublishAsync.MaxPending = bench_number(argc, argv, "in-flight", 16);
    options.PublishAsync.StallWait = 60000;
    jsCtx *js = NULL;
    bench_check(natsConnection_JetStream(&js, nc, &options), "JetStream");
    make_stream(js);
    double start = bench_now();
    put(js, bytes, chunk);
    double put_sec = bench_now() - start;
    start = bench_now();
    get(js, bytes);
    double get_sec = bench_now() - start;
    printf("put_sec=%.6f get_sec=%.6f\n", put_sec, get_sec);
    bench_check(js_DeleteStream(js, STREAM, NULL, NULL), "delete the stream");
    jsCtx_Destroy(js);
    natsConnection_Destroy(nc);
    nats_Close();
    return 0;
}
