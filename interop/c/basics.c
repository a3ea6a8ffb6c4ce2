/*
 * The C client against running servers: basics HOSTS. Each case works below a znode of its own; the last one kills the leader, by
 * the commands in LEADER_KILL and LEADER_START. Prints a line for each case, and "N passed, M failed" at the end.
 */
#define THREADED
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zookeeper/zookeeper.h>

static const char *hosts;
static int passed, failed;
static char why[512];

#define CHECK(condition)                                                             \
    do {                                                                             \
        if (!(condition)) {                                                          \
            snprintf(why, sizeof why, "line %d: %s", __LINE__, #condition);          \
            return 0;                                                                \
        }                                                                            \
    } while (0)

/* A session, and the last event that it was told. */
typedef struct {
    zhandle_t *handle;
    pthread_mutex_t lock;
    pthread_cond_t told;
    int connected, expired;
    int events;
    int type;
    char path[256];
} session;

static void on_event(zhandle_t *handle, int type, int state, const char *path, void *context) {
    session *s = context;
    pthread_mutex_lock(&s->lock);
    if (type == ZOO_SESSION_EVENT) {
        s->connected = state == ZOO_CONNECTED_STATE;
        s->expired = state == ZOO_EXPIRED_SESSION_STATE;
    } else {
        s->events++;
        s->type = type;
        snprintf(s->path, sizeof s->path, "%s", path);
    }
    pthread_cond_broadcast(&s->told);
    pthread_mutex_unlock(&s->lock);
    (void)handle;
}

static int wait_for(session *s, const int *flag, int at_least) {
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 60;
    pthread_mutex_lock(&s->lock);
    int late = 0;
    while (*flag < at_least && !late) late = pthread_cond_timedwait(&s->told, &s->lock, &end);
    int there = *flag >= at_least;
    pthread_mutex_unlock(&s->lock);
    return there;
}

static void begin_session(session *s, const clientid_t *id) {
    memset(s, 0, sizeof *s);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->told, NULL);
    s->handle = zookeeper_init(hosts, on_event, 10000, id, s, 0);
}

static int open_session(session *s) {
    begin_session(s, NULL);
    return s->handle != NULL && wait_for(s, &s->connected, 1);
}

static char room[128];

static int make_room(session *s) {
    return zoo_create(s->handle, "/c-", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_SEQUENCE, room, sizeof room) == ZOK;
}

static const char *in_room(const char *name) {
    static char paths[8][256];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", room, name);
    return path;
}

static int znodes(session *s) {
    char data[64];
    int length = sizeof data;
    struct Stat made, read;
    CHECK(zoo_create2(s->handle, in_room("a"), "one", 3, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0, &made) == ZOK);
    CHECK(zoo_get(s->handle, in_room("a"), 0, data, &length, &read) == ZOK);
    CHECK(length == 3 && memcmp(data, "one", 3) == 0 && made.czxid == read.czxid && made.mtime == read.mtime);
    CHECK(zoo_set2(s->handle, in_room("a"), "three", 5, 0, &read) == ZOK);
    CHECK(read.version == 1 && read.dataLength == 5 && read.mzxid > made.mzxid);
    CHECK(zoo_set(s->handle, in_room("a"), "x", 1, 7) == ZBADVERSION);
    CHECK(zoo_create(s->handle, in_room("a"), "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0) == ZNODEEXISTS);
    CHECK(zoo_exists(s->handle, in_room("none"), 0, &read) == ZNONODE);
    CHECK(zoo_delete(s->handle, in_room("a"), 1) == ZOK);
    length = sizeof data;
    CHECK(zoo_create(s->handle, in_room("null"), NULL, -1, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0) == ZOK);
    CHECK(zoo_get(s->handle, in_room("null"), 0, data, &length, NULL) == ZOK && length == -1);
    return 1;
}

static int kinds(session *s) {
    char path[256];
    struct Stat stat;
    struct String_vector names;
    CHECK(zoo_create(s->handle, in_room("s-"), "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL | ZOO_SEQUENCE, path, sizeof path) == ZOK);
    CHECK(strcmp(path, in_room("s-0000000000")) == 0);
    CHECK(zoo_exists(s->handle, path, 0, &stat) == ZOK && stat.ephemeralOwner == zoo_client_id(s->handle)->client_id);
    CHECK(zoo_create(s->handle, in_room("container"), "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_CONTAINER, NULL, 0) == ZOK);
    CHECK(zoo_create_ttl(s->handle, in_room("ttl"), "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT_WITH_TTL, 600000, NULL, 0) == ZOK);
    CHECK(zoo_get_children2(s->handle, room, 0, &names, &stat) == ZOK && names.count == 3 && stat.numChildren == 3);
    deallocate_String_vector(&names);
    return 1;
}

static int transactions(session *s) {
    zoo_op_t ops[4];
    zoo_op_result_t results[4];
    char path[256];
    struct Stat stat;
    zoo_create_op_init(&ops[0], in_room("a"), "1", 1, &ZOO_OPEN_ACL_UNSAFE, 0, path, sizeof path);
    zoo_set_op_init(&ops[1], in_room("a"), "2", 1, 0, &stat);
    zoo_check_op_init(&ops[2], in_room("a"), 1);
    CHECK(zoo_multi(s->handle, 3, ops, results) == ZOK && stat.version == 1);
    zoo_delete_op_init(&ops[0], in_room("a"), -1);
    zoo_check_op_init(&ops[1], in_room("none"), 1);
    zoo_delete_op_init(&ops[2], room, -1);
    CHECK(zoo_multi(s->handle, 3, ops, results) == ZNONODE);
    CHECK(results[0].err == ZOK && results[1].err == ZNONODE && results[2].err == ZRUNTIMEINCONSISTENCY);
    CHECK(zoo_exists(s->handle, in_room("a"), 0, NULL) == ZOK);
    return 1;
}

static int watches(session *s) {
    session other;
    CHECK(open_session(&other));
    CHECK(zoo_exists(s->handle, in_room("w"), 1, NULL) == ZNONODE);
    CHECK(zoo_create(other.handle, in_room("w"), "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0) == ZOK);
    CHECK(wait_for(s, &s->events, 1));
    CHECK(s->type == ZOO_CREATED_EVENT && strcmp(s->path, in_room("w")) == 0);
    CHECK(zoo_get_children(s->handle, in_room("w"), 1, &(struct String_vector){0}) == ZOK);
    CHECK(zoo_create(other.handle, in_room("w/x"), "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0) == ZOK);
    CHECK(wait_for(s, &s->events, 2) && s->type == ZOO_CHILD_EVENT);
    CHECK(zookeeper_close(other.handle) == ZOK);
    return 1;
}

static int authenticated;

static void on_auth(int code, const void *data) {
    __atomic_store_n((int *)data, code == ZOK ? 1 : -1, __ATOMIC_SEQ_CST);
}

static int lists(session *s) {
    session other;
    char data[8];
    int length = sizeof data;
    CHECK(open_session(&other));
    CHECK(zoo_add_auth(other.handle, "digest", "bob:pw", 6, on_auth, &authenticated) == ZOK);
    for (int i = 0; i < 3000 && !__atomic_load_n(&authenticated, __ATOMIC_SEQ_CST); i++) usleep(10000);
    CHECK(authenticated == 1);
    CHECK(zoo_create(other.handle, in_room("secret"), "x", 1, &ZOO_CREATOR_ALL_ACL, 0, NULL, 0) == ZOK);
    CHECK(zoo_get(s->handle, in_room("secret"), 0, data, &length, NULL) == ZNOAUTH);
    CHECK(zoo_get(other.handle, in_room("secret"), 0, data, &length, NULL) == ZOK);
    CHECK(zookeeper_close(other.handle) == ZOK);
    return 1;
}

/* Answers to writes in flight: how many came, and whether each was the next. */
static int answered, in_order = 1;

static void on_set(int code, const struct Stat *stat, const void *data) {
    if (code != ZOK || stat->version != (int)(long)data + 1 || answered != (int)(long)data) in_order = 0;
    __atomic_add_fetch(&answered, 1, __ATOMIC_SEQ_CST);
}

static int pipeline(session *s) {
    CHECK(zoo_create(s->handle, in_room("n"), "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0) == ZOK);
    for (long i = 0; i < 5000; i++) CHECK(zoo_aset(s->handle, in_room("n"), "x", 1, (int)i, on_set, (void *)i) == ZOK);
    for (int i = 0; i < 6000 && __atomic_load_n(&answered, __ATOMIC_SEQ_CST) < 5000; i++) usleep(10000);
    CHECK(answered == 5000 && in_order);
    return 1;
}

static int taken_over(session *s) {
    session wrong;
    clientid_t id = *zoo_client_id(s->handle);
    memset(id.passwd, 0, sizeof id.passwd);
    begin_session(&wrong, &id);
    CHECK(wait_for(&wrong, &wrong.expired, 1));
    zookeeper_close(wrong.handle);
    return 1;
}

/* Sets to version + 1; after a lost connection it looks whether it did. */
static int increment(session *s, int version) {
    struct Stat stat;
    for (int tries = 0; tries < 3000; tries++) {
        int code = zoo_set2(s->handle, in_room("k"), "x", 1, version, &stat);
        if (code == ZOK) return stat.version;
        if (code == ZBADVERSION && zoo_exists(s->handle, in_room("k"), 0, &stat) == ZOK) return stat.version;
        usleep(20000);
    }
    return -1;
}

static int leader_killed(session *s) {
    int64_t id = zoo_client_id(s->handle)->client_id;
    struct Stat stat;
    CHECK(zoo_create(s->handle, in_room("k"), "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0) == ZOK);
    CHECK(zoo_create(s->handle, in_room("e"), "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL, NULL, 0) == ZOK);
    CHECK(zoo_exists(s->handle, in_room("later"), 1, NULL) == ZNONODE);
    int before = s->events, version = 0;
    CHECK(system(getenv("LEADER_KILL")) == 0);
    for (int i = 0; i < 20; i++) CHECK((version = increment(s, version)) == i + 1);
    CHECK(system(getenv("LEADER_START")) == 0);
    CHECK(zoo_exists(s->handle, in_room("e"), 0, &stat) == ZOK && stat.ephemeralOwner == id);
    CHECK(zoo_client_id(s->handle)->client_id == id);
    CHECK(zoo_create(s->handle, in_room("later"), "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0) == ZOK);
    CHECK(wait_for(s, &s->events, before + 1) && s->type == ZOO_CREATED_EVENT);
    return 1;
}

static void run(const char *name, int (*test)(session *)) {
    session s;
    struct timespec began, ended;
    clock_gettime(CLOCK_MONOTONIC, &began);
    snprintf(why, sizeof why, "no session");
    int good = open_session(&s) && make_room(&s) && test(&s);
    zookeeper_close(s.handle);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    double seconds = (ended.tv_sec - began.tv_sec) + (ended.tv_nsec - began.tv_nsec) / 1e9;
    if (good) {
        passed++;
        printf("ok    %-70s %5.1f s\n", name, seconds);
    } else {
        failed++;
        printf("FAIL  %s: %s\n", name, why);
    }
    fflush(stdout);
}

int main(int count, char **words) {
    if (count < 2) return 64;
    hosts = words[1];
    zoo_set_debug_level(0);
    run("create, get, set, exists, delete, null data", znodes);
    run("sequential, ephemeral, container, time to live", kinds);
    run("a multi is all or nothing", transactions);
    run("watches", watches);
    run("lists and digest", lists);
    run("5,000 pipelined writes are answered in order", pipeline);
    run("a wrong password expires", taken_over);
    if (getenv("LEADER_KILL")) run("a session outlives the leader", leader_killed);
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
