/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * All that a client sends: bytes and descriptors into a real session, with a device
 * that accepts everything. The replies must be whole messages; nothing may be left.
 *
 * Input: one byte of modes, then either raw bytes, or messages in short form
 * (command, flags, length in 2 bytes, payload), framed here.
 */
#include <assert.h>
#include <errno.h>
#include <sanitizer/lsan_interface.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "reactor/internal.h"
#include "vfio_user/internal.h"

enum {
	M_IOMMUFD = 1,
	M_GREETED = 2,
	M_SHORT = 4,
	M_MEMORY = 8,
	M_EVENT = 16,
	M_BYTES = 32,
	M_DEAF = 64
};

static const char iommufd_json[] =
	"{\"capabilities\":{\"iommufd\":{\"supported\":true}}}";

static struct vu_listener listener;
static struct vu_session *current;
static uint8_t bar[8192];
static int barfd, memory, event;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int
dev_open(void *owner, struct vu_session *s, struct ioas_ctx *ioas,
	 struct irq_set *irqs, void **dev)
{
	current = s;
	*dev = &current;
	return 0;
}

static void
dev_close(void *dev)
{
	vu_closed(current);
}

static void
dev_region_info(void *dev, unsigned index, struct vu_region *out)
{
	*out = (struct vu_region){ .fd = -1 };
	if (index == 0)
		*out = (struct vu_region){ sizeof(bar), true, true, barfd,
					   0,		4096, 4096 };
	if (index == 7)
		*out = (struct vu_region){ 256, true, true, -1 };
}

static int
dev_read(void *dev, unsigned index, uint64_t off, void *buf, uint32_t len)
{
	memcpy(buf, bar + off, len);
	return 0;
}

static int
dev_write(void *dev, unsigned index, uint64_t off, const void *buf,
	  uint32_t len)
{
	memcpy(bar + off, buf, len);
	if (len == 3) /* some end later, some throw the client out */
		vu_complete(current, bar[off] ? -EIO : 0);
	if (len == 5)
		vu_disconnect(current, "five bytes");
	return len == 3 ? -EINPROGRESS : 0;
}

static int
dev_reset(void *dev)
{
	vu_complete(current, 0);
	return -EINPROGRESS;
}

static const struct vu_device_ops ops = {
	.open = dev_open,
	.close = dev_close,
	.region_info = dev_region_info,
	.region_read = dev_read,
	.region_write = dev_write,
	.reset = dev_reset,
};

static void
setup(void)
{
	unsigned core = 0;
	struct reactor_config cfg = { .cores = &core,
				      .ncores = 1,
				      .no_pin = true };

	if (reactors_init(&cfg) || irq_watchdog_init())
		abort();
	log_set_level(LOG_ERROR);
	barfd = memfd_create("bar", MFD_CLOEXEC);
	memory = memfd_create("memory", MFD_CLOEXEC);
	event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (ftruncate(barfd, sizeof(bar)) || ftruncate(memory, 1 << 20))
		abort();
	listener.home = reactor_get(0);
	/* what hangs from it is no leak: it is in memory of its node */
	__lsan_register_root_region(listener.home, sizeof(struct reactor));
	listener.cfg.path = "fuzz";
	listener.cfg.msix = 8;
	listener.cfg.limits.arena_len = 4ull << 30;
	listener.cfg.ops = &ops;
	listener.rfd.events = EPOLLIN;
	list_init(&listener.sessions);
	list_init(&listener.held);
}

/* Read what has come; check its frames. */
static void
take_replies(int c)
{
	static uint8_t buf[1 << 20];
	union {
		char buf[CMSG_SPACE(8 * sizeof(int))];
		struct cmsghdr align;
	} control;
	static size_t have;
	ssize_t n;

	if (c < 0) {
		have = 0;
		return;
	}
	do {
		struct iovec iov = { buf + have, sizeof(buf) - have };
		struct msghdr msg = { .msg_iov = &iov,
				      .msg_iovlen = 1,
				      .msg_control = control.buf,
				      .msg_controllen = sizeof(control.buf) };
		struct cmsghdr *cm;
		struct vu_hdr hdr;

		n = recvmsg(c, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		cm = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
		if (cm) {
			int fd;

			assert(cm->cmsg_len == CMSG_LEN(sizeof(fd)));
			memcpy(&fd, CMSG_DATA(cm), sizeof(fd));
			close(fd);
		}
		have += n > 0 ? (size_t)n : 0;
		while (have >= sizeof(hdr)) {
			memcpy(&hdr, buf, sizeof(hdr));
			assert((hdr.flags & ~VU_F_ERROR) == VU_F_REPLY);
			assert(hdr.msg_size >= 16 && hdr.msg_size <= 32 + 8192);
			assert(!(hdr.flags & VU_F_ERROR) || hdr.msg_size == 16);
			assert(!hdr.error_no == !(hdr.flags & VU_F_ERROR));
			if (have < hdr.msg_size)
				break;
			have -= hdr.msg_size;
			memmove(buf, buf + hdr.msg_size, have);
		}
	} while (n > 0);
}

static void
put(int c, uint8_t modes, const void *data, size_t len)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	size_t piece = modes & M_BYTES ? 7 : len;

	for (size_t at = 0; at < len;) {
		struct iovec iov = { (char *)data + at, MIN(piece, len - at) };
		struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
		ssize_t n;

		if (!at && (modes & (M_MEMORY | M_EVENT))) {
			struct cmsghdr *cm;

			msg.msg_control = control.buf;
			msg.msg_controllen = sizeof(control.buf);
			cm = CMSG_FIRSTHDR(&msg);
			cm->cmsg_level = SOL_SOCKET;
			cm->cmsg_type = SCM_RIGHTS;
			cm->cmsg_len = CMSG_LEN(sizeof(int));
			memcpy(CMSG_DATA(cm),
			       modes & M_MEMORY ? &memory : &event,
			       sizeof(int));
		}
		n = sendmsg(c, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN)
			return;
		at += n > 0 ? (size_t)n : 0;
		reactor_step(listener.home);
		if (n < 0 || !(modes & M_DEAF))
			take_replies(c);
	}
}

static void
put_msg(int c, uint8_t modes, unsigned cmd, uint32_t flags, const void *data,
	size_t len)
{
	struct vu_hdr hdr = { 1, (uint16_t)cmd, (uint32_t)(sizeof(hdr) + len),
			      flags, 0 };
	uint8_t *buf = malloc(sizeof(hdr) + len);

	memcpy(buf, &hdr, sizeof(hdr));
	if (len)
		memcpy(buf + sizeof(hdr), data, len);
	put(c, modes, buf, sizeof(hdr) + len);
	free(buf);
}

static void
put_short(int c, uint8_t modes, const uint8_t *data, size_t size)
{
	while (size >= 4) {
		size_t len = MIN((size_t)(data[2] | data[3] << 8), size - 4);
		uint32_t flags = data[1] & 0x3f;

		/* bits 6 and 7: other descriptors than usual */
		modes = (modes & ~(M_MEMORY | M_EVENT)) |
			(data[1] & 0x40 ? M_MEMORY : 0) |
			(data[1] & 0x80 ? M_EVENT : 0);
		put_msg(c, modes, data[0], flags, data + 4, len);
		data += 4 + len;
		size -= 4 + len;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int pair[2], spins = 0;
	uint8_t modes;

	if (!listener.home)
		setup();
	if (size < 1 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
		       pair))
		return 0;
	modes = data[0];
	take_replies(-1);
	if (vu_session_create(&listener, pair[0], 1, 1))
		abort();
	if (modes & M_GREETED) {
		char hello[4 + sizeof(iommufd_json)] = { 0 };

		memcpy(hello + 4, iommufd_json, sizeof(iommufd_json));
		put_msg(pair[1], 0, VU_VERSION, 0, hello,
			modes & M_IOMMUFD ? sizeof(hello) : 4);
	}
	if (modes & M_SHORT)
		put_short(pair[1], modes, data + 1, size - 1);
	else
		put(pair[1], modes, data + 1, size - 1);
	for (int i = 0; i < 3; i++)
		reactor_step(listener.home);
	take_replies(pair[1]);
	close(pair[1]);
	while (listener.count) {
		if (!reactor_step(listener.home) && ++spins > 100)
			usleep(20);
		assert(spins < 100000);
	}
	return 0;
}
