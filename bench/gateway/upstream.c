/* A model upstream that costs almost nothing: one thread, epoll, fixed answers.
 *
 *   cc -O2 -o upstream upstream.c && ./upstream PORT [DELAY_MS]
 *
 * POST with "stream":true in its body: 43 events (40 pieces of text, the finish, the usage, [DONE]),
 * 5 ms apart. Any other POST: a chat completion of about 0.7 kB, after DELAY_MS. Keep-alive.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST 4096
#define ROOM 65536
#define EVENTS 43
#define GAP_MS 5

struct connection {
    int open, used, event;
    int64_t due; /* when the next thing is to be written, 0 for never */
    char in[ROOM];
};

static struct connection *connections[MOST];
static char answer[2048], head[256], events[EVENTS][512];
static int answer_length, head_length, event_length[EVENTS], delay_ms;

static int64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int chunk(char *out, const char *data) {
    return sprintf(out, "%zx\r\n%s\r\n", strlen(data), data);
}

static void prepare(void) {
    char body[1536], piece[384], text[512];
    memset(text, 0, sizeof text);
    for (int n = 0; n < 64; n++) strcat(text, n % 8 ? "words " : "answer ");
    int length = sprintf(body,
        "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1790000000,"
        "\"model\":\"gpt-4o-mini\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
        "\"content\":\"%s\",\"refusal\":null},\"logprobs\":null,\"finish_reason\":\"stop\"}],"
        "\"usage\":{\"prompt_tokens\":212,\"completion_tokens\":64,\"total_tokens\":276,"
        "\"prompt_tokens_details\":{\"cached_tokens\":128},"
        "\"completion_tokens_details\":{\"reasoning_tokens\":0}}}", text);
    answer_length = sprintf(answer, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
        "x-request-id: req_1\r\ncontent-length: %d\r\n\r\n%s", length, body);
    head_length = sprintf(head, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
        "x-request-id: req_1\r\ntransfer-encoding: chunked\r\n\r\n");
    const char *start = "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\","
        "\"created\":1790000000,\"model\":\"gpt-4o-mini\",\"choices\":";
    for (int n = 0; n < 40; n++) {
        sprintf(piece, "%s[{\"index\":0,\"delta\":{\"content\":\"word%d \"},"
            "\"finish_reason\":null}],\"usage\":null}\n\n", start, n);
        event_length[n] = chunk(events[n], piece);
    }
    sprintf(piece, "%s[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n", start);
    event_length[40] = chunk(events[40], piece);
    sprintf(piece, "%s[],\"usage\":{\"prompt_tokens\":212,\"completion_tokens\":64,"
        "\"total_tokens\":276}}\n\n", start);
    event_length[41] = chunk(events[41], piece);
    event_length[42] = chunk(events[42], "data: [DONE]\n\n");
    event_length[42] += sprintf(events[42] + event_length[42], "0\r\n\r\n");
}

static void drop(int fd) {
    close(fd);
    connections[fd]->open = 0;
    connections[fd]->due = 0;
}

static void put(int fd, const char *data, int length) {
    if (send(fd, data, length, MSG_NOSIGNAL) != length) drop(fd);
}

/* Answers every whole request in the buffer; bytes of the next one stay. */
static void serve(int fd) {
    struct connection *c = connections[fd];
    for (;;) {
        c->in[c->used] = 0;
        char *end = strstr(c->in, "\r\n\r\n");
        if (!end || c->due) return;
        int body = end - c->in + 4, length = 0;
        char *field = strcasestr(c->in, "\r\ncontent-length:");
        if (field && field < end) length = atoi(field + 17);
        if (c->used < body + length) return;
        char kept = c->in[body + length];
        c->in[body + length] = 0;
        int stream = strstr(c->in + body, "\"stream\":true") || strstr(c->in + body, "\"stream\": true");
        c->in[body + length] = kept;
        c->used -= body + length;
        memmove(c->in, c->in + body + length, c->used);
        if (stream) {
            put(fd, head, head_length);
            c->event = 0;
            c->due = now_ms() + GAP_MS;
        } else if (delay_ms) {
            c->event = -1;
            c->due = now_ms() + delay_ms;
        } else {
            put(fd, answer, answer_length);
        }
        if (!c->open) return;
    }
}

static void tick(int fd) {
    struct connection *c = connections[fd];
    if (c->event < 0) {
        c->due = 0;
        put(fd, answer, answer_length);
    } else {
        int n = c->event++;
        c->due = c->event < EVENTS ? c->due + GAP_MS : 0;
        put(fd, events[n], event_length[n]);
    }
    if (c->open && !c->due) serve(fd);
}

int main(int count, char **words) {
    if (count < 2) return fprintf(stderr, "usage: upstream PORT [DELAY_MS]\n"), 2;
    delay_ms = count > 2 ? atoi(words[2]) : 0;
    prepare();
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons(atoi(words[1]))};
    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listening, (struct sockaddr *)&place, sizeof place) || listen(listening, 4096))
        return perror("upstream"), 1;
    int poll = epoll_create1(0), highest = 0;
    struct epoll_event asked = {.events = EPOLLIN, .data.fd = listening}, ready[512];
    epoll_ctl(poll, EPOLL_CTL_ADD, listening, &asked);
    for (;;) {
        int64_t now = now_ms(), next = -1;
        for (int fd = 0; fd <= highest; fd++) {
            struct connection *c = connections[fd];
            if (!c || !c->open || !c->due) continue;
            if (c->due <= now) tick(fd);
            if (c->due && (next < 0 || c->due < next)) next = c->due;
        }
        int wait = next < 0 ? -1 : next > now ? (int)(next - now) : 0;
        int found = epoll_wait(poll, ready, 512, wait);
        for (int n = 0; n < found; n++) {
            int fd = ready[n].data.fd;
            if (fd == listening) {
                int new;
                while ((new = accept4(listening, 0, 0, SOCK_NONBLOCK)) >= 0) {
                    if (new >= MOST) { close(new); continue; }
                    if (!connections[new]) connections[new] = malloc(sizeof(struct connection));
                    memset(connections[new], 0, offsetof(struct connection, in));
                    connections[new]->open = 1;
                    setsockopt(new, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    struct epoll_event e = {.events = EPOLLIN, .data.fd = new};
                    epoll_ctl(poll, EPOLL_CTL_ADD, new, &e);
                    if (new > highest) highest = new;
                }
                continue;
            }
            struct connection *c = connections[fd];
            if (!c->open) continue;
            int got = recv(fd, c->in + c->used, ROOM - 1 - c->used, 0);
            if (got <= 0) {
                if (got == 0 || (errno != EAGAIN && errno != EINTR)) drop(fd);
                continue;
            }
            c->used += got;
            serve(fd);
        }
    }
}
