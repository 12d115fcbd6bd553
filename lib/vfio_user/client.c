/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The client's side: a connection, VERSION, one message and its reply. Not for
 * what the messages say: that is client_cmd.c; nor for the socket: client_io.c.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "client.h"

#define DEFAULT_TIMEOUT_MS 5000

static uint64_t
deadline_of(const struct vuc *c, unsigned timeout_ms)
{
	return util_now_ns() +
	       (timeout_ms ? timeout_ms : c->timeout_ms) * 1000000ull;
}

int
vuc_send(struct vuc *c, const struct vuc_msg *m, unsigned timeout_ms,
	 uint16_t *id)
{
	int err;

	pthread_mutex_lock(&c->lock);
	err = vuc_send_locked(c, m, deadline_of(c, timeout_ms), id);
	pthread_mutex_unlock(&c->lock);
	return err;
}

int
vuc_wait(struct vuc *c, uint16_t id, struct vuc_msg *m, unsigned timeout_ms)
{
	int err;

	pthread_mutex_lock(&c->lock);
	err = vuc_wait_locked(c, id, m, deadline_of(c, timeout_ms));
	pthread_mutex_unlock(&c->lock);
	return err;
}

int
vuc_call(struct vuc *c, struct vuc_msg *m, unsigned timeout_ms)
{
	uint64_t deadline;
	uint16_t id;
	int err;

	pthread_mutex_lock(&c->lock);
	deadline = deadline_of(c, timeout_ms);
	err = c->broken;
	for (unsigned i = 0; !err && i < c->npending; i++)
		if (!c->pending[i].dropped)
			err = -EBUSY;
	if (!err)
		err = vuc_send_locked(c, m, deadline, &id);
	if (!err)
		err = vuc_wait_locked(c, id, m, deadline);
	pthread_mutex_unlock(&c->lock);
	return err;
}

static int
negotiate(struct vuc *c, enum vuc_want want)
{
	static const char with[] =
		"{\"capabilities\":{\"iommufd\":{\"supported\":true},"
		"\"max_msg_fds\":16,\"max_data_xfer_size\":1048576,"
		"\"max_dma_maps\":65535,\"pgsizes\":4096,"
		"\"write_multiple\":false}}";
	static const char without[] =
		"{\"capabilities\":{\"max_msg_fds\":16,"
		"\"max_data_xfer_size\":1048576,\"max_dma_maps\":65535,"
		"\"pgsizes\":4096,\"write_multiple\":false}}";
	struct vu_version v = { .major = VU_MAJOR, .minor = VU_MINOR };
	uint8_t reply[4096];
	struct vuc_msg m = {
		.command = VU_VERSION,
		.req = &v,
		.req_len = sizeof(v),
		.data = want == VUC_LEGACY ? without : with,
		.data_len = want == VUC_LEGACY ? sizeof(without) : sizeof(with),
		.reply = reply,
		.reply_min = sizeof(v),
		.reply_max = sizeof(reply),
	};
	int err = vuc_call(c, &m, 0);

	if (err)
		return err;
	if (vu_version_parse(reply, m.reply_len, &c->caps) ||
	    c->caps.minor > v.minor || c->caps.twin_socket ||
	    !c->caps.max_data_xfer_size)
		return -EPROTO;
	c->iommufd = want != VUC_LEGACY && c->caps.iommufd;
	return want == VUC_IOMMUFD && !c->iommufd ? -EPROTONOSUPPORT : 0;
}

int
vuc_attach(int fd, enum vuc_want want, unsigned timeout_ms, struct vuc **out)
{
	struct vuc *c = calloc(1, sizeof(*c));
	int err;

	if (!c) {
		close(fd);
		return -ENOMEM;
	}
	c->fd = fd;
	c->timeout_ms = timeout_ms ? timeout_ms : DEFAULT_TIMEOUT_MS;
	pthread_mutex_init(&c->lock, NULL);
	err = negotiate(c, want);
	if (err) {
		vuc_close(c);
		return err;
	}
	*out = c;
	return 0;
}

/* connect() to a full backlog blocks, so it is retried until the time is over. */
static int
connect_until(int fd, const struct sockaddr_un *sun, uint64_t deadline)
{
	while (connect(fd, (const struct sockaddr *)sun, sizeof(*sun))) {
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		if (util_now_ns() >= deadline)
			return -ETIMEDOUT;
		poll(NULL, 0, 5);
	}
	return 0;
}

int
vuc_connect(const char *path, enum vuc_want want, unsigned timeout_ms,
	    struct vuc **out)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	unsigned ms = timeout_ms ? timeout_ms : DEFAULT_TIMEOUT_MS;
	int fd, err;

	if (strlen(path) >= sizeof(sun.sun_path))
		return -ENAMETOOLONG;
	strcpy(sun.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	err = connect_until(fd, &sun, util_now_ns() + ms * 1000000ull);
	if (err) {
		close(fd);
		return err;
	}
	return vuc_attach(fd, want, ms, out);
}

void
vuc_close(struct vuc *c)
{
	if (!c)
		return;
	vuc_close_fds(c);
	close(c->fd);
	pthread_mutex_destroy(&c->lock);
	free(c->body);
	free(c);
}

void
vuc_set_timeout(struct vuc *c, unsigned timeout_ms)
{
	pthread_mutex_lock(&c->lock);
	c->timeout_ms = timeout_ms ? timeout_ms : DEFAULT_TIMEOUT_MS;
	pthread_mutex_unlock(&c->lock);
}

int
vuc_fd(const struct vuc *c)
{
	return c->fd;
}

const struct vu_caps *
vuc_caps(const struct vuc *c)
{
	return &c->caps;
}

bool
vuc_iommufd(const struct vuc *c)
{
	return c->iommufd;
}
