/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Descriptors of a FUSE file system, whose server is the client itself, so that it decides when fstat, mmap, a fault or a
 * close returns, or that none ever does. They are refused without a question to it, and what has to ask (a close) nobody waits
 * for but that client.
 *
 * The server is a thread here that speaks the kernel's protocol: one directory, one file.
 */
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "common_vm.h"

#define FILE_LEN (2u << 20)
#define FILE_ID 2
#define HANG_MS 1000

/* ---- the file system ---- */

static struct {
	int fd;
	char dir[32];
	pthread_mutex_t lock;
	bool mute; /* answers nobody else; what was asked waits below */
	unsigned nheld;
	struct fuse_in_header held[64];
	unsigned asked, flushes; /* since the last time that the test looked */
	unsigned last;		 /* of asked: its opcode */
} fs = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void
answer(uint64_t unique, int err, const void *data, size_t len)
{
	struct {
		struct fuse_out_header h;
		uint8_t data[256];
	} out = { .h = { .error = -err, .unique = unique } };

	out.h.len = (uint32_t)(sizeof(out.h) + len);
	if (len)
		memcpy(out.data, data, len);
	(void)!write(fs.fd, &out, out.h.len); /* ENOENT: nobody waits now */
}

static struct fuse_attr
attr_of(uint64_t node)
{
	struct fuse_attr a = { .ino = node, .nlink = 1, .blksize = 4096 };

	a.mode = node == FUSE_ROOT_ID ? S_IFDIR | 0755 : S_IFREG | 0644;
	a.size = node == FUSE_ROOT_ID ? 0 : FILE_LEN;
	return a;
}

/* Attributes are good for no time: each look at them is a question. */
static void
serve(const struct fuse_in_header *h)
{
	struct fuse_init_out init = { .major = FUSE_KERNEL_VERSION,
				      .minor = FUSE_KERNEL_MINOR_VERSION,
				      .max_write = 4096,
				      .time_gran = 1 };
	struct fuse_entry_out entry = { .nodeid = FILE_ID,
					.attr = attr_of(FILE_ID) };
	struct fuse_attr_out attr = { .attr = attr_of(h->nodeid) };
	struct fuse_open_out open_out = { .fh = 1 };

	switch (h->opcode) {
	case FUSE_INIT:
		answer(h->unique, 0, &init, sizeof(init));
		break;
	case FUSE_LOOKUP:
		answer(h->unique, 0, &entry, sizeof(entry));
		break;
	case FUSE_GETATTR:
		answer(h->unique, 0, &attr, sizeof(attr));
		break;
	case FUSE_OPEN:
		answer(h->unique, 0, &open_out, sizeof(open_out));
		break;
	case FUSE_FLUSH:
	case FUSE_RELEASE:
		answer(h->unique, 0, NULL, 0);
		break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
		break;
	default:
		answer(h->unique, ENOSYS, NULL, 0);
	}
}

static void
take(const struct fuse_in_header *h)
{
	bool own = h->pid == (uint32_t)getpid(), hold;

	pthread_mutex_lock(&fs.lock);
	if (h->opcode == FUSE_FLUSH) {
		fs.flushes += !own;
	} else if (h->opcode != FUSE_RELEASE && h->opcode != FUSE_FORGET) {
		fs.asked++;
		fs.last = h->opcode;
	}
	hold = fs.mute && !own &&
	       fs.nheld < sizeof(fs.held) / sizeof(fs.held[0]);
	if (hold)
		fs.held[fs.nheld++] = *h;
	pthread_mutex_unlock(&fs.lock);
	if (!hold)
		serve(h);
}

static void *
server(void *arg)
{
	static union {
		struct fuse_in_header h;
		uint8_t room[65536];
	} in;
	int fd = fs.fd; /* test_killed() has others */

	(void)arg;
	for (;;) {
		ssize_t n = read(fd, &in, sizeof(in));

		if (n >= (ssize_t)sizeof(in.h))
			take(&in.h);
		else if (n >= 0 || (errno != EINTR && errno != ENOENT))
			return NULL; /* ENODEV: unmounted */
	}
}

static void
mute(bool on)
{
	unsigned i;

	pthread_mutex_lock(&fs.lock);
	fs.mute = on;
	for (i = 0; !on && i < fs.nheld; i++)
		serve(&fs.held[i]);
	if (!on)
		fs.nheld = 0;
	fs.asked = fs.flushes = 0;
	pthread_mutex_unlock(&fs.lock);
}

static unsigned
value(const unsigned *p)
{
	unsigned v;

	pthread_mutex_lock(&fs.lock);
	v = *p;
	pthread_mutex_unlock(&fs.lock);
	return v;
}

/* Somebody has closed it, so often, and waits for the server in there. */
static void
await_flushes(unsigned n)
{
	uint64_t end = now_ms() + 10000;

	while (value(&fs.flushes) < n) {
		assert_true(now_ms() < end);
		usleep(1000);
	}
}

static int
open_file(void)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "%s/file", fs.dir);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

/* NULL: it works; else what does not. */
static const char *
fs_mount(void)
{
	char options[96];

	fs.fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (fs.fd < 0)
		return "open /dev/fuse";
	strcpy(fs.dir, "/tmp/belfry-fuse-XXXXXX");
	if (!mkdtemp(fs.dir))
		return fs.dir;
	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=40000,user_id=%u,group_id=%u", fs.fd, getuid(),
		 getgid());
	if (!mount("belfry-test", fs.dir, "fuse", MS_NOSUID | MS_NODEV,
		   options))
		return NULL;
	rmdir(fs.dir);
	return "mount";
}

/* A name space of our own: nobody else sees it, and it goes with us. */
static const char *
fs_first(void)
{
	if (unshare(CLONE_NEWNS) ||
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return "a mount name space";
	return fs_mount();
}

/* ---- the tests ---- */

static struct vm v;

static int
set_irq(int fd)
{
	struct vfio_irq_set s = { .argsz = sizeof(s),
				  .flags = VFIO_IRQ_SET_DATA_EVENTFD |
					   VFIO_IRQ_SET_ACTION_TRIGGER,
				  .index = VFIO_PCI_MSIX_IRQ_INDEX,
				  .count = 1 };

	return vu_call(v.c, VU_DEVICE_SET_IRQS, &s, sizeof(s), &fd, 1, NULL);
}

/* The server is up and answers: all the same, and it hears of nothing but the closes. */
static void
test_refused(void **state)
{
	uint64_t at = 0x8000000000;
	unsigned mode, before;
	struct stat st;
	int fd;

	for (mode = 0; mode < 2; mode++) {
		vm_start(&v, "vm0", mode);
		before = daemon_fds();
		fd = open_file();
		mute(false);
		assert_int_equal(fstat(fd, &st), 0);
		assert_int_equal(st.st_size, FILE_LEN);
		assert_true(value(&fs.asked) > 0); /* a fstat would show */
		mute(false);
		assert_int_equal(vm_map_fd(&v, v.ioas, fd, 0, PAGE, true, true,
					   &at),
				 EINVAL);
		assert_int_equal(vm_map_fd(&v, v.ioas, fd, 0, FILE_LEN, true,
					   false, &at),
				 EINVAL);
		assert_int_equal(set_irq(fd), EINVAL);
		daemon_fds_settle(before);
		await_flushes(3);
		if (value(&fs.asked))
			fail_msg("the daemon asked for %u", fs.last);
		close(fd);
		assert_int_equal(vm_io(&v, OPC_READ, 0, 8, v.a[A_DATA].iova, 0),
				 0);
		vm_kill(&v);
	}
}

/* What a client sends with such a descriptor; its close then waits for the server. */
static const struct row {
	const char *name;
	unsigned command;
	bool iommufd;
	bool vanish; /* the client goes while it waits */
} rows[] = {
	{ "DMA_MAP", VU_DMA_MAP, false, false },
	{ "DMA_MAP, and gone", VU_DMA_MAP, false, true },
	{ "IOAS_MAP", VU_IOMMUFD_IOAS_MAP, true, false },
	{ "IOAS_MAP, and gone", VU_IOMMUFD_IOAS_MAP, true, true },
	{ "SET_IRQS", VU_DEVICE_SET_IRQS, false, false },
	{ "SET_IRQS, and gone", VU_DEVICE_SET_IRQS, true, true },
};

static void
send_row(const struct row *w, int fd)
{
	struct vu_dma_map m = { 32, 3, 0, 0x9000000000, PAGE };
	struct vu_ioas_map im = { sizeof(im), 3, v.ioas, 0, 0, PAGE, 0, 0 };
	struct vfio_irq_set s = { 20,
				  VFIO_IRQ_SET_DATA_EVENTFD |
					  VFIO_IRQ_SET_ACTION_TRIGGER,
				  VFIO_PCI_MSIX_IRQ_INDEX, 0, 1 };

	if (w->command == VU_DMA_MAP)
		vu_send(v.c, w->command, 0, &m, sizeof(m), &fd, 1);
	else if (w->command == VU_IOMMUFD_IOAS_MAP)
		vu_send(v.c, w->command, 0, &im, sizeof(im), &fd, 1);
	else
		vu_send(v.c, w->command, 0, &s, sizeof(s), &fd, 1);
}

/* Machines come and go for HANG_MS, and the control path answers; gives how many. */
static unsigned
others_live(void)
{
	static struct vm other;
	uint64_t start = now_ms();
	unsigned done;

	for (done = 0; now_ms() - start < HANG_MS; done++) {
		vm_start(&other, "vm2", done & 1);
		assert_int_equal(vm_io(&other, OPC_READ, 0, 8,
				       other.a[A_DATA].iova, 0),
				 0);
		vm_kill(&other);
		json_decref(rpc("bdev_get_bdevs", NULL));
	}
	return done;
}

static void
test_never_answers(void **state)
{
	static struct neighbour n;
	unsigned i, done, before;
	struct reply r;
	uint64_t gap;
	int fd;

	before = daemon_fds();
	neighbour_start(&n, "vm1");
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		vm_start(&v, "vm0", rows[i].iommufd);
		fd = open_file();
		mute(true);
		neighbour_gap_us(&n);
		send_row(&rows[i], fd);
		await_flushes(1);
		if (rows[i].vanish)
			vm_kill(&v);
		done = others_live();
		gap = neighbour_gap_us(&n);
		print_message("%s: %u machines came and went, gap %llu us\n",
			      rows[i].name, done, (unsigned long long)gap);
		assert_true(gap < 50000);
		assert_true(done > 5);
		if (value(&fs.asked))
			fail_msg("%s: the daemon asked for %u", rows[i].name,
				 fs.last);
		mute(false);
		if (!rows[i].vanish) {
			assert_true(vu_recv(v.c, &r));
			assert_int_equal(r.hdr.error_no, EINVAL);
			assert_int_equal(vm_io(&v, OPC_READ, 0, 8,
					       v.a[A_DATA].iova, 0),
					 0);
			vm_kill(&v);
		}
		close(fd);
	}
	neighbour_stop(&n);
	daemon_fds_settle(before);
}

/*
 * In a process of its own, as no assertion may fail there: server and client of @w, which gets no answer, since the daemon's
 * close waits for the server. Says so at @told.
 */
static void
serve_and_map(const struct row *w, int told)
{
	char path[64];
	pthread_t thread;
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	pthread_mutex_init(&fs.lock, NULL);
	if (pthread_create(&thread, NULL, server, NULL))
		_exit(1);
	snprintf(path, sizeof(path), "%s/file", fs.dir);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		_exit(2);
	mute(true);
	send_row(w, fd);
	close(fd); /* or its end would wait for the server, which would have ended */
	while (!value(&fs.flushes))
		usleep(1000);
	if (write(told, "", 1) != 1)
		_exit(3);
	for (;;)
		pause();
}

static void
kill_in_the_middle(const struct row *w)
{
	struct pollfd p;
	pid_t client;
	int told[2];

	assert_int_equal(pipe2(told, O_CLOEXEC), 0);
	vm_start(&v, "vm0", w->iommufd);
	client = fork();
	assert_true(client >= 0);
	if (!client)
		serve_and_map(w, told[1]);
	close(told[1]);
	close(fs.fd); /* the child is the only server */
	vm_kill(&v);  /* and the only client */
	p = (struct pollfd){ told[0], POLLIN, 0 };
	assert_int_equal(poll(&p, 1, 10000), 1);
	assert_true(p.revents & POLLIN);
	close(told[0]);
	assert_int_equal(kill(client, SIGKILL), 0);
	assert_int_equal(waitpid(client, NULL, 0), client);
}

/* Client and server are one process, and it is killed in the middle of a message. */
static void
test_killed(void **state)
{
	static struct neighbour n;
	unsigned i, before;
	uint64_t gap, start;
	char dir[32];
	int fd = fs.fd;

	before = daemon_fds();
	strcpy(dir, fs.dir);
	neighbour_start(&n, "vm1");
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (rows[i].vanish)
			continue; /* it always does */
		assert_null(fs_mount());
		neighbour_gap_us(&n);
		kill_in_the_middle(&rows[i]);
		start = now_ms();
		vm_start(&v, "vm0", false);
		gap = neighbour_gap_us(&n);
		print_message("%s, and killed: the next one after %llu ms, "
			      "gap %llu us\n",
			      rows[i].name,
			      (unsigned long long)(now_ms() - start),
			      (unsigned long long)gap);
		assert_true(now_ms() - start < 5000);
		assert_true(gap < 50000);
		assert_int_equal(vm_io(&v, OPC_READ, 0, 8, v.a[A_DATA].iova, 0),
				 0);
		vm_kill(&v);
		assert_int_equal(umount2(fs.dir, MNT_FORCE | MNT_DETACH), 0);
		assert_int_equal(rmdir(fs.dir), 0);
	}
	fs.fd = fd;
	strcpy(fs.dir, dir);
	neighbour_stop(&n);
	daemon_fds_settle(before);
}

/* The server ends while the daemon's close waits for it; then with files of it that are still around. */
static void
test_server_dies(void **state)
{
	static struct neighbour n;
	uint64_t at = 0x8000000000, gap;
	unsigned before;
	struct reply r;
	int fd;

	neighbour_start(&n, "vm1");
	vm_start(&v, "vm0", false);
	before = daemon_fds();
	fd = open_file();
	mute(true);
	neighbour_gap_us(&n);
	send_row(&rows[0], fd);
	await_flushes(1);
	umount2(fs.dir, MNT_FORCE); /* busy; but it ends all requests */
	assert_true(vu_recv(v.c, &r));
	assert_int_equal(r.hdr.error_no, EINVAL);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fsync(fd), -1); /* it is dead */
	assert_int_equal(errno, ENOTCONN);
	assert_int_equal(vm_map_fd(&v, 0, fd, 0, PAGE, true, true, &at),
			 EINVAL);
	assert_int_equal(set_irq(fd), EINVAL);
	gap = neighbour_gap_us(&n);
	print_message("a server dies: gap %llu us\n", (unsigned long long)gap);
	assert_true(gap < 50000);
	assert_int_equal(vm_io(&v, OPC_READ, 0, 8, v.a[A_DATA].iova, 0), 0);
	daemon_fds_settle(before);
	close(fd);
	vm_kill(&v);
	neighbour_stop(&n);
}

static int
setup(void **state)
{
	int err = daemon_setup(state);

	if (err)
		return err;
	wire_malloc("m2", 64);
	wire_export("vm2", "m2");
	return 0;
}

static int
run_all(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_never_answers),
		cmocka_unit_test(test_killed),
		cmocka_unit_test(test_server_dies), /* the last */
	};
	pthread_t thread;
	int failed;

	if (pthread_create(&thread, NULL, server, NULL))
		return 1;
	failed = cmocka_run_group_tests_name("wire FUSE", tests, setup,
					     daemon_teardown);
	mute(false);
	return failed; /* the thread and what is held end with us */
}

static void
on_stop(int sig)
{
	(void)sig;
}

/*
 * Who closes a file of a server that does not answer cannot even be killed. So the tests run
 * in a process of their own, and this one ends the file system when they are too long.
 */
int
main(void)
{
	struct sigaction stop = { .sa_handler = on_stop };
	const char *missing = fs_first();
	int status = 1;
	pid_t tests;

	if (missing) {
		printf("skipped: no FUSE here: %s: %s\n", missing,
		       strerror(errno));
		return 77;
	}
	sigaction(SIGTERM, &stop, NULL);
	sigaction(SIGALRM, &stop, NULL);
	tests = fork();
	if (!tests) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		exit(run_all());
	}
	close(fs.fd);
	alarm(60);
	if (tests > 0 && waitpid(tests, &status, 0) < 0) {
		printf("the tests hang\n");
		kill(tests, SIGKILL);
	}
	if (umount2(fs.dir, MNT_FORCE | MNT_DETACH) || rmdir(fs.dir))
		status = 1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
