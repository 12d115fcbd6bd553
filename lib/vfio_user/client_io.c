/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The client's side of the socket: a message out, its reply in, and those of others that come before it. Not for
 * connections: client.c.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client.h"

#define MAX_BODY (VU_DEFAULT_DATA_XFER + 4096)

static int
give_up(struct vuc *c, int err)
{
	if (!c->broken) {
		c->broken = err;
		shutdown(c->fd, SHUT_RDWR);
	}
	return c->broken;
}

void
vuc_close_fds(struct vuc *c)
{
	while (c->nfds)
		close(c->fds[--c->nfds]);
}

/* Wait for @events until @deadline. */
static int
wait_for(struct vuc *c, short events, uint64_t deadline)
{
	struct pollfd p = { .fd = c->fd, .events = events };

	for (;;) {
		uint64_t now = util_now_ns();
		int n;

		if (now >= deadline)
			return -ETIMEDOUT;
		n = poll(&p, 1, (int)((deadline - now) / 1000000 + 1));
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}

static void
attach_fds(struct msghdr *mh, void *control, const int *fds, unsigned n)
{
	struct cmsghdr *cm;

	mh->msg_control = control;
	mh->msg_controllen = CMSG_SPACE(n * sizeof(int));
	cm = CMSG_FIRSTHDR(mh);
	cm->cmsg_level = SOL_SOCKET;
	cm->cmsg_type = SCM_RIGHTS;
	cm->cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(cm), fds, n * sizeof(int));
}

static void
skip_iov(struct msghdr *mh, size_t n)
{
	while (mh->msg_iovlen && n >= mh->msg_iov->iov_len) {
		n -= mh->msg_iov->iov_len;
		mh->msg_iov++;
		mh->msg_iovlen--;
	}
	if (mh->msg_iovlen) {
		mh->msg_iov->iov_base = (char *)mh->msg_iov->iov_base + n;
		mh->msg_iov->iov_len -= n;
	}
}

/* Half a message sent cannot be taken back: then the stream is given up. */
static int
send_all(struct vuc *c, struct msghdr *mh, uint64_t deadline)
{
	bool begun = false;

	while (mh->msg_iovlen) {
		ssize_t n = sendmsg(c->fd, mh, MSG_NOSIGNAL | MSG_DONTWAIT);
		int err;

		if (n >= 0) {
			begun = true;
			mh->msg_control = NULL;
			mh->msg_controllen = 0;
			skip_iov(mh, (size_t)n);
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno == EPIPE || errno == ECONNRESET)
			return give_up(c, -ECONNRESET);
		if (errno != EAGAIN)
			return begun ? give_up(c, -errno) : -errno;
		err = wait_for(c, POLLOUT, deadline);
		if (err)
			return begun ? give_up(c, err) : err;
	}
	return 0;
}

int
vuc_send_locked(struct vuc *c, const struct vuc_msg *m, uint64_t deadline,
		uint16_t *id)
{
	struct vu_hdr hdr = {
		.msg_id = c->next_id,
		.command = m->command,
		.msg_size = (uint32_t)(sizeof(hdr) + m->req_len + m->data_len),
		.flags = m->posted ? VU_F_NO_REPLY : 0,
	};
	struct iovec iov[] = {
		{ &hdr, sizeof(hdr) },
		{ (void *)m->req, m->req_len },
		{ (void *)m->data, m->data_len },
	};
	struct msghdr mh = { .msg_iov = iov, .msg_iovlen = ARRAY_SIZE(iov) };
	char control[CMSG_SPACE(VUC_MAX_FDS * sizeof(int))]
		__attribute__((aligned(8))) = { 0 };
	int err;

	if (c->broken)
		return c->broken;
	if (m->nfds > VUC_MAX_FDS || m->req_len > MAX_BODY ||
	    m->data_len > MAX_BODY)
		return -EINVAL;
	if (c->npending == MAX_PENDING && !m->posted)
		return -EBUSY;
	if (m->nfds)
		attach_fds(&mh, control, m->fds, m->nfds);
	err = send_all(c, &mh, deadline);
	if (err)
		return err;
	if (!m->posted)
		c->pending[c->npending++] =
			(struct pending){ .id = hdr.msg_id,
					  .command = m->command };
	c->next_id++;
	*id = hdr.msg_id;
	return 0;
}

/* Descriptors that came along; too many, or cut off by the kernel: -EPROTO. */
static int
take_fds(struct vuc *c, struct msghdr *mh)
{
	int err = mh->msg_flags & MSG_CTRUNC ? -EPROTO : 0;

	for (struct cmsghdr *cm = CMSG_FIRSTHDR(mh); cm;
	     cm = CMSG_NXTHDR(mh, cm)) {
		size_t n;

		if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
			continue;
		n = (cm->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(cm) + i * sizeof(int),
			       sizeof(fd));
			if (c->nfds < VUC_MAX_FDS) {
				c->fds[c->nfds++] = fd;
			} else {
				close(fd);
				err = -EPROTO;
			}
		}
	}
	return err;
}

/* Receive up to @len bytes of the current message. 0: got some. */
static int
recv_some(struct vuc *c, void *buf, size_t len, uint64_t deadline)
{
	char control[CMSG_SPACE(VUC_MAX_FDS * sizeof(int))]
		__attribute__((aligned(8)));
	struct iovec iov = { buf, len };

	for (;;) {
		struct msghdr mh = { .msg_iov = &iov,
				     .msg_iovlen = 1,
				     .msg_control = control,
				     .msg_controllen = sizeof(control) };
		ssize_t n =
			recvmsg(c->fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		int err;

		if (n == 0)
			return give_up(c, -ECONNRESET);
		if (n > 0) {
			c->got += (size_t)n;
			err = take_fds(c, &mh);
			return err ? give_up(c, err) : 0;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return give_up(c,
				       errno == EPIPE ? -ECONNRESET : -errno);
		err = wait_for(c, POLLIN, deadline);
		if (err)
			return err;
	}
}

/* Receive until a whole message stands in hdr and body. Goes on where a time-out left it. */
static int
recv_message(struct vuc *c, uint64_t deadline)
{
	int err;

	while (c->got < sizeof(c->hdr)) {
		err = recv_some(c, (char *)&c->hdr + c->got,
				sizeof(c->hdr) - c->got, deadline);
		if (err)
			return err;
	}
	if (c->hdr.msg_size < sizeof(c->hdr) ||
	    c->hdr.msg_size - sizeof(c->hdr) > MAX_BODY)
		return give_up(c, -EPROTO);
	if (c->hdr.msg_size - sizeof(c->hdr) > c->body_max) {
		size_t want = c->hdr.msg_size - sizeof(c->hdr);
		uint8_t *p = realloc(c->body, want);

		if (!p)
			return -ENOMEM;
		c->body = p;
		c->body_max = want;
	}
	while (c->got < c->hdr.msg_size) {
		err = recv_some(c, c->body + c->got - sizeof(c->hdr),
				c->hdr.msg_size - c->got, deadline);
		if (err)
			return err;
	}
	c->got = 0;
	return 0;
}

/* The server asks us something (DMA_READ, DMA_WRITE): our memory is mappable, so no. */
static int
refuse_command(struct vuc *c)
{
	struct vu_hdr hdr = c->hdr;

	vuc_close_fds(c);
	if (hdr.flags & VU_F_NO_REPLY)
		return 0;
	hdr.msg_size = sizeof(hdr);
	hdr.flags = VU_F_REPLY | VU_F_ERROR;
	hdr.error_no = ENOSYS;
	if (send(c->fd, &hdr, sizeof(hdr), MSG_NOSIGNAL | MSG_DONTWAIT) ==
	    sizeof(hdr))
		return 0;
	return give_up(c, errno == EPIPE ? -ECONNRESET : -EPROTO);
}

/* The reply to the oldest request is in hdr, body and fds: check it, hand it over. */
static int
take_reply(struct vuc *c, struct vuc_msg *m)
{
	size_t len = c->hdr.msg_size - sizeof(c->hdr);

	if (c->hdr.flags & VU_F_ERROR) {
		uint32_t e = c->hdr.error_no;

		return e && e <= 4095 ? -(int)e : -EINVAL;
	}
	if (len < m->reply_min || len > m->reply_max)
		return give_up(c, -EPROTO);
	if (len)
		memcpy(m->reply, c->body, len);
	m->reply_len = len;
	if (m->reply_fds) {
		memcpy(m->reply_fds, c->fds, c->nfds * sizeof(c->fds[0]));
		m->reply_nfds = c->nfds;
		c->nfds = 0;
	}
	return 0;
}

static bool
oldest_is(const struct vuc *c, uint16_t id)
{
	unsigned i = 0;

	while (i < c->npending && c->pending[i].dropped)
		i++;
	return i < c->npending && c->pending[i].id == id;
}

static void
drop(struct vuc *c, uint16_t id)
{
	for (unsigned i = 0; i < c->npending; i++)
		if (c->pending[i].id == id)
			c->pending[i].dropped = true;
}

int
vuc_wait_locked(struct vuc *c, uint16_t id, struct vuc_msg *m,
		uint64_t deadline)
{
	m->reply_len = 0;
	m->reply_nfds = 0;
	if (c->broken)
		return c->broken;
	if (!oldest_is(c, id))
		return -EINVAL;
	for (;;) {
		int err = recv_message(c, deadline);
		struct pending first = c->pending[0];

		if (err) {
			drop(c, id);
			return err;
		}
		if ((c->hdr.flags & VU_F_TYPE_MASK) == VU_F_COMMAND) {
			err = refuse_command(c);
			if (!err && util_now_ns() >= deadline)
				err = -ETIMEDOUT; /* it may never stop */
			if (err) {
				drop(c, id);
				return err;
			}
			continue;
		}
		if ((c->hdr.flags & VU_F_TYPE_MASK) != VU_F_REPLY ||
		    c->hdr.msg_id != first.id ||
		    c->hdr.command != first.command) {
			vuc_close_fds(c);
			return give_up(c, -EPROTO);
		}
		memmove(c->pending, c->pending + 1,
			--c->npending * sizeof(c->pending[0]));
		if (!first.dropped)
			err = take_reply(c, m);
		vuc_close_fds(c);
		if (!first.dropped)
			return err;
	}
}
