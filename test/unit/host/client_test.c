/* SPDX-License-Identifier: BSD-3-Clause */
/* The raw client against a server that answers by a script. */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include "unit.h"

/* What the server does with the request after VERSION. */
enum act {
	GOOD,
	TRUNCATED_BODY, /* and then EOF */
	SHORT,		/* payload too short */
	LONG,		/* payload too long */
	TINY,		/* msg_size 8 */
	HUGE_SIZE,	/* msg_size 4 GiB */
	OTHER_COMMAND,
	OTHER_ID,
	BAD_TYPE,
	ERROR_REPLY,
	ERROR_ZERO,
	ERROR_WILD,
	ERROR_WITH_BODY,
	SILENCE,
	HALF_HEADER, /* and then silence */
	GONE,
	PIECES, /* a byte at a time */
	COMMAND_FIRST,
	COMMANDS_ONLY,
	WRONG_COUNT,
	MANY_FDS,
	FDS_NOT_ASKED,
};

struct server {
	int fd;
	enum act act;
	const char *version; /* JSON of the VERSION reply; NULL: none */
	uint16_t major, minor;
	int version_err;
	bool no_nul;
	pthread_t thread;
};

static bool
get_request(int fd, struct vu_hdr *hdr, uint8_t *body, size_t max)
{
	size_t len;

	if (recv(fd, hdr, sizeof(*hdr), MSG_WAITALL) != sizeof(*hdr))
		return false;
	len = hdr->msg_size - sizeof(*hdr);
	return len <= max &&
	       (!len || recv(fd, body, len, MSG_WAITALL) == (ssize_t)len);
}

static void
put(int fd, const struct vu_hdr *hdr, const void *body, size_t len)
{
	struct iovec iov[] = { { (void *)hdr, sizeof(*hdr) },
			       { (void *)body, len } };
	struct msghdr mh = { .msg_iov = iov, .msg_iovlen = 2 };

	(void)!sendmsg(fd, &mh, MSG_NOSIGNAL);
}

static void
put_fds(int fd, const struct vu_hdr *hdr, const void *body, size_t len, int n)
{
	union {
		struct cmsghdr cm;
		char space[CMSG_SPACE(32 * sizeof(int))];
	} u = { 0 };
	struct iovec iov[] = { { (void *)hdr, sizeof(*hdr) },
			       { (void *)body, len } };
	struct msghdr mh = { .msg_iov = iov,
			     .msg_iovlen = 2,
			     .msg_control = &u,
			     .msg_controllen = CMSG_SPACE(n * sizeof(int)) };

	u.cm.cmsg_level = SOL_SOCKET;
	u.cm.cmsg_type = SCM_RIGHTS;
	u.cm.cmsg_len = CMSG_LEN(n * sizeof(int));
	for (int i = 0; i < n; i++) {
		int zero = 0;

		memcpy(CMSG_DATA(&u.cm) + i * sizeof(int), &zero, sizeof(zero));
	}
	(void)!sendmsg(fd, &mh, MSG_NOSIGNAL);
}

static void
put_version(struct server *s, struct vu_hdr hdr)
{
	struct {
		struct vu_version v;
		char json[300];
	} reply = { { s->major, s->minor } };
	size_t len = sizeof(reply.v);

	hdr.flags = VU_F_REPLY;
	if (s->version) {
		strcpy(reply.json, s->version);
		len += strlen(s->version) + !s->no_nul;
	}
	if (s->version_err) {
		hdr.flags |= VU_F_ERROR;
		hdr.error_no = (uint32_t)s->version_err;
		len = 0;
	}
	hdr.msg_size = (uint32_t)(sizeof(hdr) + len);
	put(s->fd, &hdr, &reply, len);
}

/* Sixteen bytes: what REGION_READ of one byte (and 16 + 1) or DEVICE_INFO wants. */
static void
misbehave(struct server *s, struct vu_hdr hdr, const uint8_t *body)
{
	uint8_t reply[64] = { 0 };
	size_t len = 17;

	memcpy(reply, body, 16);
	reply[16] = 0x5a;
	hdr.flags = VU_F_REPLY;
	switch (s->act) {
	case SHORT:
		len = 12;
		break;
	case LONG:
		len = 18;
		break;
	case OTHER_COMMAND:
		hdr.command++;
		break;
	case OTHER_ID:
		hdr.msg_id++;
		break;
	case BAD_TYPE:
		hdr.flags = 5;
		break;
	case ERROR_REPLY:
	case ERROR_ZERO:
	case ERROR_WILD:
	case ERROR_WITH_BODY:
		hdr.flags |= VU_F_ERROR;
		hdr.error_no = s->act == ERROR_ZERO   ? 0
			       : s->act == ERROR_WILD ? 0xffffffff
						      : ENOSPC;
		if (s->act != ERROR_WITH_BODY)
			len = 0;
		break;
	case WRONG_COUNT:
		reply[12] = 7;
		break;
	default:
		break;
	}
	hdr.msg_size = s->act == TINY	     ? 8
		       : s->act == HUGE_SIZE ? UINT32_MAX
					     : (uint32_t)(sizeof(hdr) + len);
	if (s->act == TRUNCATED_BODY)
		len = 5;
	if (s->act == HALF_HEADER) {
		(void)!send(s->fd, &hdr, 9, MSG_NOSIGNAL);
	} else if (s->act == PIECES) {
		uint8_t all[sizeof(hdr) + 17];

		memcpy(all, &hdr, sizeof(hdr));
		memcpy(all + sizeof(hdr), reply, 17);
		for (size_t i = 0; i < sizeof(all); i++)
			(void)!send(s->fd, all + i, 1, MSG_NOSIGNAL);
	} else if (s->act == MANY_FDS || s->act == FDS_NOT_ASKED) {
		put_fds(s->fd, &hdr, reply, len, s->act == MANY_FDS ? 20 : 3);
	} else {
		put(s->fd, &hdr, reply, len);
	}
}

/* The server asks for the client's memory, and reads what it says to that. */
static bool
ask_client(int fd)
{
	struct vu_hdr hdr = { 99, VU_DMA_READ, 32, 0, 0 };
	uint8_t body[16] = { 0 };

	put(fd, &hdr, body, sizeof(body));
	return recv(fd, &hdr, sizeof(hdr), MSG_WAITALL) == sizeof(hdr) &&
	       hdr.msg_id == 99 && hdr.flags == (VU_F_REPLY | VU_F_ERROR) &&
	       hdr.error_no == ENOSYS;
}

static void *
serve(void *arg)
{
	struct server *s = arg;
	uint8_t body[4096];
	struct vu_hdr hdr;

	if (!get_request(s->fd, &hdr, body, sizeof(body)))
		goto out;
	put_version(s, hdr);
	while (get_request(s->fd, &hdr, body, sizeof(body))) {
		if (s->act == GONE)
			break;
		if (s->act == SILENCE)
			continue;
		while (s->act == COMMANDS_ONLY)
			if (!ask_client(s->fd))
				goto out;
		if (s->act == COMMAND_FIRST && !ask_client(s->fd))
			break;
		misbehave(s, hdr, body);
		if (s->act == TRUNCATED_BODY)
			break;
	}
out:
	close(s->fd);
	return NULL;
}

static int
open_client(struct server *s, enum vuc_want want, struct vuc **c)
{
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	s->fd = sv[1];
	assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
	return vuc_attach(sv[0], want, 30000, c);
}

static const struct reply_case {
	const char *name;
	enum act act;
	int want, again; /* what the next call gives */
} reply_cases[] = {
	{ "good", GOOD, 0, 0 },
	{ "in pieces", PIECES, 0, 0 },
	{ "a command of the server before", COMMAND_FIRST, 0, 0 },
	{ "descriptors not asked for", FDS_NOT_ASKED, 0, 0 },
	{ "an error", ERROR_REPLY, -ENOSPC, -ENOSPC },
	{ "an error with a body", ERROR_WITH_BODY, -ENOSPC, -ENOSPC },
	{ "an error without a number", ERROR_ZERO, -EINVAL, -EINVAL },
	{ "an error out of range", ERROR_WILD, -EINVAL, -EINVAL },
	{ "commands without end", COMMANDS_ONLY, -ETIMEDOUT, -ECONNRESET },
	{ "never answers", SILENCE, -ETIMEDOUT, -ETIMEDOUT },
	{ "half a header", HALF_HEADER, -ETIMEDOUT, -ETIMEDOUT },
	{ "gone", GONE, -ECONNRESET, -ECONNRESET },
	{ "gone in the middle", TRUNCATED_BODY, -ECONNRESET, -ECONNRESET },
	{ "too short", SHORT, -EPROTO, -EPROTO },
	{ "too long", LONG, -EPROTO, -EPROTO },
	{ "smaller than a header", TINY, -EPROTO, -EPROTO },
	{ "4 GiB", HUGE_SIZE, -EPROTO, -EPROTO },
	{ "of another command", OTHER_COMMAND, -EPROTO, -EPROTO },
	{ "with another id", OTHER_ID, -EPROTO, -EPROTO },
	{ "neither command nor reply", BAD_TYPE, -EPROTO, -EPROTO },
	{ "says another count", WRONG_COUNT, -EPROTO, -EPROTO },
	{ "too many descriptors", MANY_FDS, -EPROTO, -EPROTO },
};

static int
open_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void
replies(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(reply_cases); i++) {
		const struct reply_case *rc = &reply_cases[i];
		struct server s = { .act = rc->act };
		int err, again, before = open_fds();
		struct vuc *c = NULL;
		uint8_t byte = 0;

		assert_int_equal(open_client(&s, VUC_LEGACY, &c), 0);
		if (rc->want == -ETIMEDOUT)
			vuc_set_timeout(c, 100);
		err = vuc_region_read(c, 7, 0, &byte, 1);
		vuc_set_timeout(c, rc->again == -ETIMEDOUT ? 100 : 30000);
		again = vuc_region_read(c, 7, 0, &byte, 1);
		vuc_close(c);
		pthread_join(s.thread, NULL);
		if (err != rc->want || again != rc->again)
			fail_msg("%s: %d, then %d", rc->name, err, again);
		if (!err)
			assert_int_equal(byte, 0x5a);
		if (open_fds() != before)
			fail_msg("%s: %d fds more", rc->name,
				 open_fds() - before);
	}
}

static const struct version_case {
	const char *name, *json;
	uint16_t major, minor;
	int error;
	bool no_nul;
	enum vuc_want want;
	int result;
} version_cases[] = {
	{ "no JSON", NULL, 0, 0, 0, false, VUC_EITHER, 0 },
	{ "empty object", "{}", 0, 0, 0, false, VUC_EITHER, 0 },
	{ "unknown keys", "{\"capabilities\":{\"x\":1}}", 0, 1, 0, false,
	  VUC_EITHER, 0 },
	{ "iommufd", "{\"capabilities\":{\"iommufd\":{\"supported\":true}}}", 0,
	  0, 0, false, VUC_IOMMUFD, 0 },
	{ "iommufd false",
	  "{\"capabilities\":{\"iommufd\":{\"supported\":false}}}", 0, 0, 0,
	  false, VUC_IOMMUFD, -EPROTONOSUPPORT },
	{ "another major", NULL, 1, 0, 0, false, VUC_EITHER, -EPROTO },
	{ "a minor we did not propose", NULL, 0, 3, 0, false, VUC_EITHER,
	  -EPROTO },
	{ "refused", NULL, 0, 0, EBUSY, false, VUC_EITHER, -EBUSY },
	{ "no NUL", "{}", 0, 0, 0, true, VUC_EITHER, -EPROTO },
	{ "no JSON text", "{\"capabilities\":", 0, 0, 0, false, VUC_EITHER,
	  -EPROTO },
	{ "an array", "[]", 0, 0, 0, false, VUC_EITHER, -EPROTO },
	{ "negative transfer size",
	  "{\"capabilities\":{\"max_data_xfer_size\":-1}}", 0, 0, 0, false,
	  VUC_EITHER, -EPROTO },
	{ "transfer size 0", "{\"capabilities\":{\"max_data_xfer_size\":0}}", 0,
	  0, 0, false, VUC_EITHER, -EPROTO },
	{ "a twin socket that nobody asked for",
	  "{\"capabilities\":{\"twin_socket\":{\"supported\":true}}}", 0, 0, 0,
	  false, VUC_EITHER, -EPROTO },
};

static void
versions(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(version_cases); i++) {
		const struct version_case *vc = &version_cases[i];
		struct server s = { .version = vc->json,
				    .major = vc->major,
				    .minor = vc->minor,
				    .version_err = vc->error,
				    .no_nul = vc->no_nul };
		struct vuc *c = NULL;
		int err = open_client(&s, vc->want, &c);

		if (err != vc->result)
			fail_msg("%s: %d", vc->name, err);
		if (!err)
			assert_int_equal(vuc_iommufd(c),
					 vc->want == VUC_IOMMUFD);
		vuc_close(c);
		pthread_join(s.thread, NULL);
	}
}

/* A reply that comes too late is dropped; the next one is the right one. */
static void
late(void **state)
{
	struct vu_region_access a = { 0, 7, 1 };
	uint8_t reply[17], body[64];
	struct vuc_msg m = { .command = VU_REGION_READ,
			     .req = &a,
			     .req_len = sizeof(a),
			     .reply = reply,
			     .reply_min = sizeof(reply),
			     .reply_max = sizeof(reply) };
	struct server s = { .act = SILENCE }, quiet = { .act = GOOD };
	uint16_t first, second, third;
	struct vu_hdr hdr;
	struct vuc *c;
	int sv[2];

	/* This server is us. */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	s.fd = quiet.fd = sv[1];
	hdr = (struct vu_hdr){ 0, VU_VERSION, 20, VU_F_REPLY, 0 };
	put(sv[1], &hdr, body, 0);
	memset(body, 0, sizeof(body));
	assert_int_equal(send(sv[1], body, 4, 0), 4);
	assert_int_equal(vuc_attach(sv[0], VUC_LEGACY, 30000, &c), 0);
	assert_true(recv(sv[1], &hdr, sizeof(hdr), MSG_WAITALL) > 0);
	assert_true(recv(sv[1], reply, 4, MSG_WAITALL) == 4);
	for (uint32_t left = hdr.msg_size - 20; left; left--)
		assert_int_equal(recv(sv[1], body, 1, 0), 1);

	/* posted ones wait for nothing, however many, and are in nobody's way */
	for (uint32_t i = 0; i < 100; i++)
		assert_int_equal(vuc_region_post(c, 0, 0x1000, &i, 4), 0);
	for (uint32_t i = 0; i < 100; i++) {
		assert_true(get_request(sv[1], &hdr, body, sizeof(body)));
		assert_int_equal(hdr.command, VU_REGION_WRITE);
		assert_int_equal(hdr.flags, VU_F_NO_REPLY);
		assert_memory_equal(body + 16, &i, 4);
	}
	assert_int_equal(vuc_region_post(c, 0, 0, body, 65), -EINVAL);
	assert_int_equal(vuc_send(c, &m, 0, &first), 0);
	assert_int_equal(vuc_send(c, &m, 0, &second), 0);
	assert_int_equal(vuc_send(c, &m, 0, &third), 0);
	assert_int_equal(vuc_call(c, &m, 0), -EBUSY);
	assert_int_equal(vuc_wait(c, second, &m, 0), -EINVAL);
	assert_int_equal(vuc_wait(c, first, &m, 20), -ETIMEDOUT);
	assert_int_equal(vuc_wait(c, first, &m, 20), -EINVAL);
	for (int i = 0; i < 3; i++) {
		assert_true(get_request(sv[1], &hdr, body, sizeof(body)));
		s.act = i == 1 ? ERROR_REPLY : GOOD;
		misbehave(&s, hdr, body);
	}
	assert_int_equal(vuc_wait(c, second, &m, 0), -ENOSPC);
	assert_int_equal(vuc_wait(c, third, &m, 0), 0);
	assert_int_equal(m.reply_len, 17);
	vuc_close(c);
	close(sv[1]);
}

/* Region infos: what GET_REGION_INFO may say, and what of it is believed. */
static const struct info_case {
	const char *name;
	uint32_t flags, cap_offset, areas;
	uint16_t cap_id;
	uint32_t cap_next;
	uint64_t size, offset, area_off, area_len;
	int nfds;
	int want;
	unsigned nareas;
} info_cases[] = {
	{ "sparse area", 15, 32, 1, 1, 0, 8192, 0, 4096, 4096, 1, 0, 1 },
	{ "no fd", 15, 32, 1, 1, 0, 8192, 0, 4096, 4096, 0, 0, 0 },
	{ "fd, but not mappable", 11, 32, 1, 1, 0, 8192, 0, 4096, 4096, 1, 0,
	  0 },
	{ "no capability: all of it", 7, 0, 0, 0, 0, 8192, 0, 0, 0, 1, 0, 1 },
	{ "area beyond the region", 15, 32, 1, 1, 0, 8192, 0, 4096, 8192, 1,
	  -EPROTO, 0 },
	{ "area wraps", 15, 32, 1, 1, 0, 8192, 0, 4096, UINT64_MAX, 1, -EPROTO,
	  0 },
	{ "file offset wraps", 15, 32, 1, 1, 0, 8192, UINT64_MAX - 4095, 4096,
	  4096, 1, -EPROTO, 0 },
	{ "too many areas", 15, 32, 17, 1, 0, 8192, 0, 4096, 4096, 1, -EPROTO,
	  0 },
	{ "areas beyond the reply", 15, 32, 2, 1, 0, 8192, 0, 4096, 4096, 1,
	  -EPROTO, 0 },
	{ "4 billion areas", 15, 32, UINT32_MAX, 1, 0, 8192, 0, 4096, 4096, 1,
	  -EPROTO, 0 },
	{ "capability beyond the reply", 15, 4096, 1, 1, 0, 8192, 0, 4096, 4096,
	  1, -EPROTO, 0 },
	{ "capability unaligned", 15, 33, 1, 1, 0, 8192, 0, 4096, 4096, 1,
	  -EPROTO, 0 },
	{ "capabilities in a circle", 15, 32, 1, 77, 32, 8192, 0, 4096, 4096, 1,
	  -EPROTO, 0 },
	{ "more fds than areas", 15, 32, 1, 1, 0, 8192, 0, 4096, 4096, 3,
	  -EPROTO, 0 },
};

static void *
serve_info(void *arg)
{
	const struct info_case *ic = *(const struct info_case **)arg;
	struct server *s = (struct server *)((void **)arg)[1];
	struct vu_region_info info = {
		.info = { 64, ic->flags, 0, ic->cap_offset, ic->size,
			  ic->offset },
		.cap = { ic->cap_id, 1, ic->cap_next },
		.nr_areas = ic->areas,
		.area = { ic->area_off, ic->area_len },
	};
	uint8_t body[4096];
	struct vu_hdr hdr;

	if (get_request(s->fd, &hdr, body, sizeof(body)))
		put_version(s, hdr);
	if (get_request(s->fd, &hdr, body, sizeof(body))) {
		hdr.flags = VU_F_REPLY;
		hdr.msg_size = sizeof(hdr) + sizeof(info);
		if (ic->nfds)
			put_fds(s->fd, &hdr, &info, sizeof(info), ic->nfds);
		else
			put(s->fd, &hdr, &info, sizeof(info));
	}
	close(s->fd);
	return NULL;
}

static void
infos(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(info_cases); i++) {
		const struct info_case *ic = &info_cases[i];
		struct server s = { 0 };
		void *arg[] = { (void *)ic, &s };
		struct vuc_region r;
		struct vuc *c;
		int sv[2], err, before = open_fds();

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
		s.fd = sv[1];
		assert_int_equal(
			pthread_create(&s.thread, NULL, serve_info, arg), 0);
		assert_int_equal(vuc_attach(sv[0], VUC_LEGACY, 30000, &c), 0);
		err = vuc_region_info(c, 0, &r);
		if (err != ic->want || r.nareas != ic->nareas)
			fail_msg("%s: %d, %u areas", ic->name, err, r.nareas);
		vuc_region_release(&r);
		vuc_close(c);
		pthread_join(s.thread, NULL);
		if (open_fds() != before)
			fail_msg("%s: %d fds more", ic->name,
				 open_fds() - before);
	}
}

int
client_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(replies),
		cmocka_unit_test(versions),
		cmocka_unit_test(late),
		cmocka_unit_test(infos),
	};

	return cmocka_run_group_tests_name("client", tests, NULL, NULL);
}
