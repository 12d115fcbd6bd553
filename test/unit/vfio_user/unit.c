/* SPDX-License-Identifier: BSD-3-Clause */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "unit.h"

struct fake fake;
struct vu_listener *listener;
char listen_path[108];
static char dir[64];
static unsigned fds_before;
static bool unlistened;

/* ---- the device ---- */

static int
fake_open(void *owner, struct vu_session *s, struct ioas_ctx *ioas,
	  struct irq_set *irqs, void **dev)
{
	assert_ptr_equal(owner, &fake);
	assert_false(fake.opened);
	fake.opens++;
	fake.s = s;
	fake.ioas = ioas;
	fake.irqs = irqs;
	if (fake.later_open) {
		fake.busy = true;
		return -EINPROGRESS;
	}
	if (fake.open_inside) {
		fake.opened = !fake.open_err;
		vu_opened(s, fake.opened ? &fake : NULL, fake.open_err);
		return -EINPROGRESS;
	}
	if (fake.open_err)
		return fake.open_err;
	fake.opened = true;
	*dev = &fake;
	return 0;
}

static void
fake_close(void *dev)
{
	struct vu_session *s = fake.s;

	assert_true(fake.opened);
	fake.closes++;
	fake.opened = false;
	if (fake.busy && fake.read_buf)
		memset(fake.read_buf, 0xee, fake.read_len); /* ASan judges */
	if (!fake.later_close) {
		fake.busy = false;
		vu_closed(s);
	}
}

static void
fake_region_info(void *dev, unsigned index, struct vu_region *out)
{
	*out = (struct vu_region){ .fd = -1 };
	if (index == 0) {
		*out = (struct vu_region){ BAR_LEN, true, true, fake.barfd,
					   0,	    4096, 4096 };
	} else if (index == VU_REGION_CONFIG) {
		out->len = sizeof(fake.config);
		out->read = out->write = true;
	} else if (index == 5) {
		out->len = 4096;
		out->read = true;
	}
}

static int
fake_read(void *dev, unsigned index, uint64_t off, void *buf, uint32_t len)
{
	const uint8_t *from = index ? fake.config : fake.bar;

	assert_true(fake.opened && len);
	fake.reads++;
	memcpy(buf, from + off, len);
	fake.read_buf = buf;
	fake.read_len = len;
	fake.busy = fake.later_io;
	return fake.later_io ? -EINPROGRESS : fake.io_err;
}

static int
fake_write(void *dev, unsigned index, uint64_t off, const void *buf,
	   uint32_t len)
{
	assert_true(fake.opened && len);
	fake.writes++;
	fake.read_buf = NULL;
	memcpy((index ? fake.config : fake.bar) + off, buf, len);
	if (fake.throw_out)
		vu_disconnect(fake.s, "the test says so");
	fake.busy = fake.later_io;
	return fake.later_io ? -EINPROGRESS : fake.io_err;
}

static int
fake_reset(void *dev)
{
	assert_true(fake.opened);
	fake.resets++;
	fake.read_buf = NULL;
	fake.busy = fake.later_reset;
	return fake.later_reset ? -EINPROGRESS : 0;
}

static void
fake_irqs_changed(void *dev)
{
	assert_true(fake.opened);
	fake.irq_changes++;
}

static const struct vu_device_ops ops = {
	.open = fake_open,
	.close = fake_close,
	.region_info = fake_region_info,
	.region_read = fake_read,
	.region_write = fake_write,
	.reset = fake_reset,
	.irqs_changed = fake_irqs_changed,
};

void
fake_finish(int err)
{
	assert_true(fake.busy);
	fake.busy = false;
	if (!fake.later_open) {
		vu_complete(fake.s, err);
		return;
	}
	fake.later_open = false;
	fake.opened = !err;
	vu_opened(fake.s, err ? NULL : &fake, err);
}

/* ---- the world ---- */

void
step(void)
{
	if (!reactor_step(reactor_get(0)))
		usleep(100);
}

unsigned
count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

int
unit_setup(void **state)
{
	struct vu_listener_config cfg = {
		.path = listen_path,
		.uid = -1,
		.gid = -1,
		.msix = MSIX_VECTORS,
		.limits.max_ioas = 4,
		.ops = &ops,
		.owner = &fake,
	};

	fds_before = count_fds();
	memset(&fake, 0, sizeof(fake));
	fake.barfd = memfd_create("bar", MFD_CLOEXEC);
	assert_int_equal(ftruncate(fake.barfd, BAR_LEN), 0);
	strcpy(dir, "/tmp/belfry-vu-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(listen_path, sizeof(listen_path), "%s/cntrl", dir);
	unlistened = false;
	assert_int_equal(vu_listen(reactor_get(0), &cfg, &listener), 0);
	return 0;
}

static void
unlisten_done(void *arg)
{
	unlistened = true;
}

void
unit_unlisten(void)
{
	vu_unlisten(listener, unlisten_done, NULL);
	listener = NULL;
	for (int i = 0; i < 20000 && !unlistened; i++) {
		if (!fake.opened && fake.later_close && fake.closes)
			break; /* the test ends the drain */
		step();
	}
}

int
unit_teardown(void **state)
{
	if (listener)
		unit_unlisten();
	until(unlistened);
	assert_int_not_equal(access(listen_path, F_OK), 0);
	assert_int_equal(rmdir(dir), 0);
	close(fake.barfd);
	until(count_fds() == fds_before);
	assert_false(fake.opened);
	return 0;
}

/* ---- a client ---- */

int
client_open(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int c = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	strcpy(addr.sun_path, listen_path);
	assert_true(c >= 0);
	/* EAGAIN: the backlog is full */
	until(connect(c, (struct sockaddr *)&addr, sizeof(addr)) == 0);
	return c;
}

void
client_send_raw(int c, const void *buf, size_t len, const int *fds,
		unsigned nfds)
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
		ssize_t n = sendmsg(c, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN) {
			step();
			continue;
		}
		if (n < 0)
			return; /* the server has closed; the test will see */
		iov.iov_base = (char *)iov.iov_base + n;
		iov.iov_len -= (size_t)n;
		msg.msg_control = NULL;
		msg.msg_controllen = 0;
	}
}

void
client_send(int c, unsigned cmd, uint32_t flags, const void *payload,
	    size_t len, const int *fds, unsigned nfds)
{
	struct vu_hdr hdr = { .msg_id = 0x1234,
			      .command = (uint16_t)cmd,
			      .msg_size = (uint32_t)(sizeof(hdr) + len),
			      .flags = flags };
	uint8_t *buf = malloc(sizeof(hdr) + len);

	memcpy(buf, &hdr, sizeof(hdr));
	if (len)
		memcpy(buf + sizeof(hdr), payload, len);
	client_send_raw(c, buf, sizeof(hdr) + len, fds, nfds);
	free(buf);
}

/* Read exactly @len bytes; false: end of file. */
static bool
read_all(int c, void *buf, size_t len, struct reply *r)
{
	while (len) {
		union {
			char buf[CMSG_SPACE(8 * sizeof(int))];
			struct cmsghdr align;
		} control;
		struct iovec iov = { buf, len };
		struct msghdr msg = { .msg_iov = &iov,
				      .msg_iovlen = 1,
				      .msg_control = control.buf,
				      .msg_controllen = sizeof(control.buf) };
		struct cmsghdr *cm;
		ssize_t n = -1;

		for (int i = 0; i < 20000; i++) {
			n = recvmsg(c, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
			if (n >= 0 || errno != EAGAIN)
				break;
			step();
		}
		if (n < 0 && errno == EAGAIN)
			fail_msg("no answer in time");
		if (n <= 0)
			return false;
		cm = CMSG_FIRSTHDR(&msg);
		if (cm && cm->cmsg_type == SCM_RIGHTS) {
			r->nfds = (unsigned)((cm->cmsg_len - CMSG_LEN(0)) /
					     sizeof(int));
			memcpy(r->fds, CMSG_DATA(cm), r->nfds * sizeof(int));
		}
		buf = (char *)buf + n;
		len -= (size_t)n;
	}
	return true;
}

bool
client_recv(int c, struct reply *r)
{
	r->nfds = 0;
	if (!read_all(c, &r->hdr, sizeof(r->hdr), r))
		return false;
	assert_true(r->hdr.msg_size >= sizeof(r->hdr));
	r->len = r->hdr.msg_size - sizeof(r->hdr);
	assert_true(r->len <= sizeof(r->data));
	assert_true(read_all(c, r->data, r->len, r));
	assert_int_equal(r->hdr.flags & VU_F_TYPE_MASK, VU_F_REPLY);
	if (r->hdr.flags & VU_F_ERROR)
		assert_int_equal(r->len, 0);
	return true;
}

int
client_call(int c, unsigned cmd, const void *payload, size_t len,
	    const int *fds, unsigned nfds, struct reply *r)
{
	struct reply own;

	r = r ? r : &own;
	client_send(c, cmd, 0, payload, len, fds, nfds);
	assert_true(client_recv(c, r));
	assert_int_equal(r->hdr.command, cmd);
	assert_int_equal(r->hdr.msg_id, 0x1234);
	if (r == &own)
		for (unsigned i = 0; i < r->nfds; i++)
			close(r->fds[i]);
	return r->hdr.flags & VU_F_ERROR ? (int)r->hdr.error_no : 0;
}

size_t
version_msg(void *buf, const char *json)
{
	struct vu_version v = { 0, 0 };
	size_t len = json ? strlen(json) + 1 : 0;
	struct vu_hdr hdr = {
		.command = VU_VERSION,
		.msg_size = (uint32_t)(sizeof(hdr) + sizeof(v) + len),
	};

	memcpy(buf, &hdr, sizeof(hdr));
	memcpy((char *)buf + sizeof(hdr), &v, sizeof(v));
	if (len)
		memcpy((char *)buf + sizeof(hdr) + sizeof(v), json, len);
	return hdr.msg_size;
}

int
client_start(const char *json)
{
	uint8_t buf[1024];
	struct reply r;
	int c = client_open();

	client_send_raw(c, buf, version_msg(buf, json), NULL, 0);
	assert_true(client_recv(c, &r));
	assert_int_equal(r.hdr.flags, VU_F_REPLY);
	return c;
}

bool
client_gone(int c)
{
	char byte;

	for (int i = 0; i < 20000; i++) {
		ssize_t n = recv(c, &byte, 1, MSG_DONTWAIT);

		if (n == 0 || (n < 0 && errno != EAGAIN))
			return true;
		if (n == 1)
			return false;
		step();
	}
	return false;
}

bool
client_silent(int c)
{
	char byte;

	for (int i = 0; i < 100; i++)
		step();
	return recv(c, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

int
guest_file(void)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, GUEST_LEN), 0);
	return fd;
}
