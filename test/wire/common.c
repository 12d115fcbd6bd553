/* SPDX-License-Identifier: BSD-3-Clause */
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "common.h"

#define WAIT_MS 10000

struct daemon d;
bool daemon_hides_bar0, daemon_spreads;

uint64_t
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static int
unix_connect(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0 && strlen(path) < sizeof(addr.sun_path));
	strcpy(addr.sun_path, path);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
		return fd;
	close(fd);
	return -1;
}

/* ---- RPC ---- */

/* One reply, which ends where JSON does. NULL: closed before. */
static json_t *
rpc_reply(int fd)
{
	size_t len = 0, max = 1 << 20;
	char *buf = malloc(max);
	json_t *reply = NULL;

	while (!reply && len < max) {
		struct pollfd p = { fd, POLLIN, 0 };
		ssize_t n;

		assert_int_equal(poll(&p, 1, WAIT_MS), 1);
		n = read(fd, buf + len, max - len);
		if (n <= 0)
			break;
		len += (size_t)n;
		reply = json_loadb(buf, len, JSON_DISABLE_EOF_CHECK, NULL);
	}
	free(buf);
	return reply;
}

json_t *
rpc_answer(const char *method, json_t *params)
{
	json_t *req = json_pack("{s:s,s:i,s:s}", "jsonrpc", "2.0", "id", 1,
				"method", method);
	json_t *reply;
	char *text;
	int fd = unix_connect(d.rpc);

	assert_true(fd >= 0);
	if (params)
		json_object_set_new(req, "params", params);
	text = json_dumps(req, 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	reply = rpc_reply(fd);
	close(fd);
	free(text);
	json_decref(req);
	return reply;
}

const char *
rpc_error(const json_t *answer)
{
	return json_string_value(
		json_object_get(json_object_get(answer, "error"), "message"));
}

json_t *
rpc(const char *method, json_t *params)
{
	json_t *reply = rpc_answer(method, params);
	json_t *result = json_incref(json_object_get(reply, "result"));

	if (!result)
		fail_msg("%s: %s", method, rpc_error(reply));
	json_decref(reply);
	return result;
}

static void
listen_on(const char *vm)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/%s", d.dir, vm);
	assert_int_equal(mkdir(path, 0700), 0);
	json_decref(rpc("nvmf_subsystem_add_listener",
			json_pack("{s:s,s:{s:s,s:s}}", "nqn", WIRE_NQN,
				  "listen_address", "trtype", "VFIOUSER",
				  "traddr", path)));
}

/* ---- the daemon ---- */

static void
choose_cores(char *list, size_t len)
{
	unsigned want = daemon_spreads ? 2 : 1, i;
	cpu_set_t may;

	list[0] = '\0';
	CPU_ZERO(&may);
	sched_getaffinity(0, sizeof(may), &may);
	for (i = 0; want && i < CPU_SETSIZE; i++) {
		if (!CPU_ISSET(i, &may))
			continue;
		snprintf(list + strlen(list), len - strlen(list), "%s%u",
			 *list ? "," : "", i);
		want--;
	}
}

static void
daemon_start(void)
{
	const char *program = getenv("BELFRYD"), *arena = getenv("ARENA_SIZE");
	char log[64], cores[16];
	int fd = -1;

	strcpy(d.dir, "/tmp/belfry-wire-XXXXXX");
	assert_non_null(mkdtemp(d.dir));
	snprintf(d.rpc, sizeof(d.rpc), "%s/rpc.sock", d.dir);
	snprintf(log, sizeof(log), "%s/log", d.dir);
	choose_cores(cores, sizeof(cores));
	d.pid = fork();
	assert_true(d.pid >= 0);
	if (!d.pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* also if we are killed */
		fd = open(log, O_CREAT | O_WRONLY | O_APPEND, 0600);
		dup2(fd, STDERR_FILENO);
		execl(program ? program : "build/bin/belfryd", "belfryd", "-r",
		      d.rpc, "-m", cores,
		      arena && *arena ? "--arena-size" : (char *)NULL, arena,
		      (char *)NULL);
		_exit(127);
	}
	for (uint64_t end = now_ms() + WAIT_MS; now_ms() < end; usleep(2000)) {
		fd = unix_connect(d.rpc);
		if (fd >= 0)
			break;
		if (waitpid(d.pid, NULL, WNOHANG) == d.pid)
			fail_msg("belfryd did not start, see %s", log);
	}
	assert_true(fd >= 0);
	close(fd);
	json_decref(rpc("framework_wait_init", NULL));
}

int
daemon_setup(void **state)
{
	daemon_start();
	json_decref(rpc("bdev_malloc_create",
			json_pack("{s:s,s:i,s:i}", "name", "m0", "block_size",
				  512, "num_blocks", 8192)));
	json_decref(rpc("nvmf_create_transport",
			json_pack("{s:s,s:b}", "trtype", "VFIOUSER",
				  "disable_mappable_bar0",
				  (int)daemon_hides_bar0)));
	json_decref(rpc("nvmf_create_subsystem",
			json_pack("{s:s,s:b}", "nqn", WIRE_NQN,
				  "allow_any_host", 1)));
	json_decref(rpc("nvmf_subsystem_add_ns",
			json_pack("{s:s,s:{s:s}}", "nqn", WIRE_NQN, "namespace",
				  "bdev_name", "m0")));
	listen_on("vm0");
	listen_on("vm1");
	return 0;
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

int
daemon_teardown(void **state)
{
	int status = 0, got = 0;

	kill(d.pid, SIGTERM);
	for (uint64_t end = now_ms() + WAIT_MS; !got && now_ms() < end;
	     usleep(2000))
		got = waitpid(d.pid, &status, WNOHANG);
	if (!got) {
		kill(d.pid, SIGKILL);
		waitpid(d.pid, &status, 0);
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		print_error("belfryd ended with %#x, see %s/log\n",
			    (unsigned)status, d.dir);
		return -1;
	}
	return nftw(d.dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

bool
daemon_is_sanitized(void)
{
	const char *sanitize = getenv("SANITIZE");

	return sanitize && *sanitize;
}

unsigned
daemon_fds(void)
{
	char path[32];
	unsigned n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", d.pid);
	dir = opendir(path);
	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

void
daemon_fds_settle(unsigned n)
{
	uint64_t end = now_ms() + WAIT_MS;

	/* Fewer is no leak: a client before may not have been gone when @n was counted. */
	while (daemon_fds() > n && now_ms() < end)
		usleep(1000);
	assert_in_range(daemon_fds(), 0, n);
}

/* ---- vfio-user ---- */

int
vu_connect(const char *vm)
{
	char path[80];
	int c;

	snprintf(path, sizeof(path), "%s/%s/cntrl", d.dir, vm);
	c = unix_connect(path);
	assert_true(c >= 0);
	return c;
}

void
vu_send_raw(int c, const void *buf, size_t len, const int *fds, unsigned nfds)
{
	union {
		char buf[CMSG_SPACE(253 * sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec iov = { (void *)buf, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (nfds) {
		struct cmsghdr *cm;

		msg.msg_control = control.buf;
		msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		cm = CMSG_FIRSTHDR(&msg);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(cm), fds, nfds * sizeof(int));
	}
	while (iov.iov_len) {
		ssize_t n = sendmsg(c, &msg, MSG_NOSIGNAL);

		if (n < 0)
			return; /* closed: the test will see */
		iov.iov_base = (char *)iov.iov_base + n;
		iov.iov_len -= (size_t)n;
		msg.msg_control = NULL;
		msg.msg_controllen = 0;
	}
}

void
vu_send(int c, unsigned cmd, uint32_t flags, const void *payload, size_t len,
	const int *fds, unsigned nfds)
{
	struct vu_hdr hdr = { 0x77, (uint16_t)cmd,
			      (uint32_t)(sizeof(hdr) + len), flags, 0 };
	uint8_t *buf = malloc(sizeof(hdr) + len);

	memcpy(buf, &hdr, sizeof(hdr));
	if (len)
		memcpy(buf + sizeof(hdr), payload, len);
	vu_send_raw(c, buf, sizeof(hdr) + len, fds, nfds);
	free(buf);
}

static bool
read_all(int c, void *buf, size_t len, int *fd)
{
	while (len) {
		union {
			char buf[CMSG_SPACE(sizeof(int))];
			struct cmsghdr align;
		} control;
		struct pollfd p = { c, POLLIN, 0 };
		struct iovec iov = { buf, len };
		struct msghdr msg = { .msg_iov = &iov,
				      .msg_iovlen = 1,
				      .msg_control = control.buf,
				      .msg_controllen = sizeof(control.buf) };
		struct cmsghdr *cm;
		ssize_t n;

		if (poll(&p, 1, WAIT_MS) != 1)
			fail_msg("no answer in time");
		n = recvmsg(c, &msg, MSG_CMSG_CLOEXEC);
		if (n <= 0)
			return false;
		cm = CMSG_FIRSTHDR(&msg);
		assert_false(msg.msg_flags & MSG_CTRUNC);
		if (cm)
			memcpy(fd, CMSG_DATA(cm), sizeof(*fd));
		buf = (char *)buf + n;
		len -= (size_t)n;
	}
	return true;
}

bool
vu_recv(int c, struct reply *r)
{
	r->fd = -1;
	if (!read_all(c, &r->hdr, sizeof(r->hdr), &r->fd))
		return false;
	assert_int_equal(r->hdr.flags & ~VU_F_ERROR, VU_F_REPLY);
	assert_in_range(r->hdr.msg_size, sizeof(r->hdr),
			sizeof(r->hdr) + sizeof(r->data));
	r->len = r->hdr.msg_size - sizeof(r->hdr);
	assert_true(read_all(c, r->data, r->len, &r->fd));
	if (r->hdr.flags & VU_F_ERROR)
		assert_true(r->hdr.error_no && !r->len);
	return true;
}

int
vu_call(int c, unsigned cmd, const void *payload, size_t len, const int *fds,
	unsigned nfds, struct reply *r)
{
	struct reply own;

	vu_send(c, cmd, 0, payload, len, fds, nfds);
	if (!vu_recv(c, r ? r : &own))
		fail_msg("command %u: the daemon closed", cmd);
	if (!r && own.fd >= 0)
		close(own.fd);
	r = r ? r : &own;
	assert_int_equal(r->hdr.command, cmd);
	assert_int_equal(r->hdr.msg_id, 0x77);
	return (int)r->hdr.error_no;
}

void
vu_hello(int c, const char *json)
{
	uint8_t buf[1024] = { 0 };
	size_t len = json ? strlen(json) + 1 : 0;

	if (len)
		memcpy(buf + 4, json, len);
	vu_send(c, VU_VERSION, 0, buf, 4 + len, NULL, 0);
}

int
vu_open(const char *vm, const char *json)
{
	int c = vu_connect(vm);
	struct reply r;

	vu_hello(c, json);
	assert_true(vu_recv(c, &r));
	assert_int_equal(r.hdr.error_no, 0);
	return c;
}

bool
vu_closed_by_peer(int c)
{
	struct pollfd p = { c, POLLIN, 0 };
	char byte;

	return poll(&p, 1, WAIT_MS) == 1 && recv(c, &byte, 1, 0) <= 0;
}

uint64_t
region_get(int c, unsigned region, uint64_t off, unsigned len)
{
	struct vu_region_access a = { off, region, len };
	struct reply r;
	uint64_t v = 0;

	assert_int_equal(vu_call(c, VU_REGION_READ, &a, sizeof(a), NULL, 0, &r),
			 0);
	assert_int_equal(r.len, sizeof(a) + len);
	memcpy(&v, r.data + sizeof(a), len);
	return v;
}

void
region_put(int c, unsigned region, uint64_t off, uint64_t v, unsigned len)
{
	struct vu_region_access a = { off, region, len };
	uint8_t buf[sizeof(a) + 8];

	memcpy(buf, &a, sizeof(a));
	memcpy(buf + sizeof(a), &v, len);
	assert_int_equal(vu_call(c, VU_REGION_WRITE, buf, sizeof(a) + len, NULL,
				 0, NULL),
			 0);
}
